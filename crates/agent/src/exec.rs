//! Runs a command beside the container's: a helper enters the container, and the command becomes the agent's own child.

use crate::command::{self, Input};
use crate::container::Container;
use crate::join::{self, Request};
use crate::pump::{Pipes, Process};
use crate::reaper::Reaper;
use anyhow::{Context, Result};
use fcvm_link::Stream;
use fcvm_proto::message::{Exec, Exit, Place, ProcessEvent};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Runs one command and carries its streams to its end.
pub(crate) async fn serve(exec: Exec, container: Option<&Container>, reaper: &Reaper, stream: Stream) {
    let (sender, receiver) = stream.split();
    let detach = exec.detach;
    let started = match (exec.place, container) {
        (Place::Container, None) => Err(Refusal::new(125, "the container is not running")),
        (Place::Container, Some(container)) => launch(&exec, Some(container), reaper).await,
        (Place::System, _) => launch(&exec, None, reaper).await,
    };
    let (pid, pipes) = match started {
        Ok(started) => started,
        Err(Refusal { code, reason }) => {
            let _ = sender.message(&ProcessEvent::Failed { code, reason }).await;
            return sender.finish();
        }
    };
    let mut process = Process::new(pid, pipes, reaper);
    if sender.message(&ProcessEvent::Started { pid }).await.is_err() {
        return kill_group(pid);
    }
    if detach {
        let _ = sender.message(&ProcessEvent::Exited(Exit::Code(0))).await;
        return sender.finish();
    }
    if process.carry((sender, receiver)).await.is_err() {
        kill_group(pid);
    }
}

/// Why a command was not started.
pub(crate) struct Refusal {
    pub(crate) code: u8,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(code: u8, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

async fn launch(exec: &Exec, container: Option<&Container>, reaper: &Reaper) -> Result<(i32, Pipes), Refusal> {
    let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
    let request = Request::new(exec, container);
    let input = if exec.interactive && !exec.detach { Input::Carried } else { Input::Null };
    let (helper, pipes, mut status) = spawn(&request, input).map_err(failed)?;
    let helper_ended = reaper.ended(helper);
    let mut said = Vec::new();
    // The command holds the other end until it is executed; what it could not do is said before that.
    let read = status.read_to_end(&mut said).await;
    let _ = helper_ended.await;
    read.context("hear the helper").map_err(failed)?;
    let report = join::Report::decode(&said).ok_or_else(|| Refusal::new(125, "the helper died"))?;
    match report.failure {
        None => Ok((report.pid, pipes)),
        Some(failure) => {
            if report.pid > 0 {
                let _ = reaper.ended(report.pid).await;
            }
            Err(Refusal::new(failure.code, failure.reason))
        }
    }
}

fn spawn(request: &Request, input: Input) -> Result<(i32, Pipes, pipe::Receiver)> {
    let (their_request, our_request) = command::pipe_pair().context("make a pipe")?;
    let (our_status, their_status) = command::pipe_pair().context("make a pipe")?;
    let mut helper = Command::new("/proc/self/exe");
    helper.env_clear().arg(join::ARGUMENT);
    for end in [&their_request, &their_status] {
        helper.arg(end.as_raw_fd().to_string());
        inherit(end)?;
    }
    let (pid, pipes) = command::start(helper, input).context("start the helper")?;
    drop((their_request, their_status));
    // A request may be larger than a pipe: a thread writes it while the helper reads.
    let bytes = serde_json::to_vec(request).context("encode the helper's request")?;
    std::thread::spawn(move || drop(std::fs::File::from(our_request).write_all(&bytes)));
    Ok((pid, pipes, pipe::Receiver::from_owned_fd(our_status).context("watch the helper")?))
}

/// Lets the next program have a descriptor. Programs are started by one thread, one after the other.
fn inherit(fd: &OwnedFd) -> Result<()> {
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).context("pass a descriptor on")
}

fn kill_group(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}
