//! The helpers that start commands: processes of [`crate::join`], each of which waits for one request.
//!
//! Starting one takes longer than all that it does, so one waits ahead. A snapshot holds it too, and the first command of
//! a clone finds it.

use crate::command::{self, Input};
use crate::exec::Refusal;
use crate::join::{self, Request};
use crate::pump::Streams;
use crate::reaper::Reaper;
use crate::terminal::{self, Pair};
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// What a pipe takes without a reader, in bytes.
const PIPE: usize = 64 << 10;

/// A helper that waits for its request.
#[derive(Debug)]
struct Helper {
    pid: i32,
    streams: Streams,
    request: File,
    status: pipe::Receiver,
}

/// The helper that waits ahead, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    ready: RefCell<Option<Helper>>,
}

impl Helpers {
    /// Starts a command. Returns its number, and our ends of its streams.
    pub(crate) async fn run(&self, request: &Request, reaper: &Reaper) -> Result<(i32, Streams), Refusal> {
        let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
        let bytes = serde_json::to_vec(request).context("encode the helper's request").map_err(failed)?;
        let helper = match request.terminal() {
            None => self.ready.take().filter(Helper::lives).map_or_else(|| Helper::start(None), Ok),
            Some((root, size)) => {
                terminal::open(&root, size).context("make a terminal").and_then(|pair| Helper::start(Some(pair)))
            }
        };
        let helper = helper.map_err(failed)?;
        helper.run(bytes, reaper).await
    }

    /// Starts the one that waits ahead, if there is none. That it cannot be started shows when it is needed.
    pub(crate) fn refill(&self) {
        let mut ready = self.ready.borrow_mut();
        if ready.is_none() {
            *ready = Helper::start(None).ok();
        }
    }
}

impl Helper {
    /// Starts one with pipes, or at a terminal.
    fn start(terminal: Option<Pair>) -> Result<Self> {
        let (their_request, request) = command::pipe_pair().context("make a pipe")?;
        let (status, their_status) = command::pipe_pair().context("make a pipe")?;
        let mut helper = Command::new("/proc/self/exe");
        helper.env_clear().arg(join::ARGUMENT);
        for end in [&their_request, &their_status] {
            helper.arg(end.as_raw_fd().to_string());
            inherit(end)?;
        }
        let started = match terminal {
            None => command::start(helper, Input::Carried),
            Some(pair) => command::start_at(helper, pair),
        };
        let (pid, streams) = started.context("start the helper")?;
        let status = pipe::Receiver::from_owned_fd(status).context("watch the helper")?;
        Ok(Self { pid, streams, request: request.into(), status })
    }

    fn lives(&self) -> bool {
        rustix::process::Pid::from_raw(self.pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    async fn run(self, bytes: Vec<u8>, reaper: &Reaper) -> Result<(i32, Streams), Refusal> {
        let Self { pid, streams, mut request, mut status } = self;
        let helper_ended = reaper.ended(pid);
        if bytes.len() <= PIPE {
            let _the_helper_says_what_it_lacks = request.write_all(&bytes);
            drop(request);
        } else {
            // The helper reads while a thread writes.
            std::thread::spawn(move || drop(request.write_all(&bytes)));
        }
        let mut said = Vec::new();
        // The command holds the other end until it is executed; what it could not do is said before that.
        let read = status.read_to_end(&mut said).await;
        let _ = helper_ended.await;
        read.map_err(|error| Refusal::new(125, format!("hear the helper: {error}")))?;
        let report = join::Report::decode(&said).ok_or_else(|| Refusal::new(125, "the helper died"))?;
        match report.failure {
            None => Ok((report.pid, streams)),
            Some(failure) => {
                if report.pid > 0 {
                    let _ = reaper.ended(report.pid).await;
                }
                Err(Refusal::new(failure.code, failure.reason))
            }
        }
    }
}

/// Lets the next program have a descriptor. Programs are started by one thread, one after the other.
fn inherit(fd: &OwnedFd) -> Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).context("pass a descriptor on")
}
