//! The helpers that start commands: processes of [`crate::join`], each of which waits for one request.
//!
//! Starting one takes longer than all that it does, so one waits ahead. A snapshot holds it too, and the first command of
//! a clone finds it.

use crate::command::{self, Input, Program};
use crate::exec::Refusal;
use crate::join::{self, Request};
use crate::pump::{Process, Pump, Streams};
use crate::reaper::Reaper;
use crate::terminal::{self, Pair};
use anyhow::{Context, Result};
use fcvm_proto::message::TerminalSize;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// What a pipe takes without a reader, in bytes.
const PIPE: usize = 64 << 10;

/// A helper that waits for its request.
#[derive(Debug)]
struct Helper {
    pid: i32,
    streams: Streams,
    pump: Pump,
    request: File,
    status: pipe::Receiver,
}

/// The helper that waits ahead, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Helpers {
    ready: Mutex<Option<Helper>>,
}

impl Helpers {
    /// Starts a command.
    pub(crate) async fn run(&self, request: &Request, reaper: &Reaper) -> Result<Process, Refusal> {
        let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
        let bytes = serde_json::to_vec(request).context("encode the helper's request").map_err(failed)?;
        let helper = match request.terminal() {
            None => self.take().await,
            Some((root, size)) => Helper::at_terminal(root, size).await,
        };
        let helper = helper.map_err(failed)?;
        helper.run(bytes, reaper).await
    }

    /// The one that waits ahead, or a new one.
    async fn take(&self) -> Result<Helper> {
        let waiting = self.ready.lock().await.take();
        match waiting.filter(Helper::lives) {
            Some(helper) => Ok(helper),
            None => Helper::start(None).await,
        }
    }

    /// Starts the one that waits ahead, if there is none. That it cannot be started shows when it is needed.
    pub(crate) async fn refill(&self) {
        let mut ready = self.ready.lock().await;
        if ready.is_none() {
            *ready = Helper::start(None).await.ok();
        }
    }
}

impl Helper {
    /// Starts one with pipes, or at a terminal.
    async fn start(terminal: Option<Pair>) -> Result<Self> {
        let (their_request, request) = command::pipe_pair().context("make a pipe")?;
        let (status, their_status) = command::pipe_pair().context("make a pipe")?;
        let mut helper = Command::new("/proc/self/exe");
        helper.env_clear().arg(join::ARGUMENT);
        for end in [&their_request, &their_status] {
            helper.arg(end.as_raw_fd().to_string());
        }
        let helper = Program::inheriting(helper, vec![their_request, their_status]);
        let started = match terminal {
            None => command::start(helper, Input::Carried).await,
            Some(pair) => command::start_at(helper, pair).await,
        };
        let (pid, streams) = started.context("start the helper")?;
        let status = pipe::Receiver::from_owned_fd(status).context("watch the helper")?;
        let pump = Pump::start().context("start to carry its streams")?;
        Ok(Self { pid, streams, pump, request: request.into(), status })
    }

    /// Starts one at a new terminal of a container.
    async fn at_terminal(root: PathBuf, size: TerminalSize) -> Result<Self> {
        // Whatever the container has put in that place, maybe a volume.
        let opened = spawn_blocking(move || terminal::open(&root, size)).await?;
        Self::start(Some(opened.context("make a terminal")?)).await
    }

    fn lives(&self) -> bool {
        rustix::process::Pid::from_raw(self.pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
    }

    async fn run(self, bytes: Vec<u8>, reaper: &Reaper) -> Result<Process, Refusal> {
        let Self { pid, streams, pump, mut request, mut status } = self;
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
            None => Ok(pump.take(report.pid, streams, reaper)),
            Some(failure) => {
                if report.pid > 0 {
                    let _ = reaper.ended(report.pid).await;
                }
                Err(Refusal::new(failure.code, failure.reason))
            }
        }
    }
}
