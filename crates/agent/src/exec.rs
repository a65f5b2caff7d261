//! Runs a command beside the container's: a helper enters the container, and the command becomes the agent's own child.

use crate::container::Container;
use crate::helper::Helpers;
use crate::join::Request;
use crate::pump::Carried;
use crate::reaper::Reaper;
use fcvm_link::Stream;
use fcvm_proto::message::{Exec, Exit, Place, ProcessEvent};

/// Runs one command and carries its streams to its end.
pub(crate) async fn serve(
    exec: Exec,
    container: Option<&Container>,
    helpers: &Helpers,
    reaper: &Reaper,
    stream: Stream,
) {
    let (sender, receiver) = stream.split();
    let detach = exec.detach;
    let started = match (exec.place, container) {
        (Place::Container, None) => Err(Refusal::new(125, "the container is not running")),
        (Place::Container, Some(container)) => helpers.run(&Request::new(&exec, Some(container)), reaper).await,
        (Place::System, _) => helpers.run(&Request::new(&exec, None), reaper).await,
    };
    let process = match started {
        Ok(started) => started,
        Err(Refusal { code, reason }) => {
            let _ = sender.message(&ProcessEvent::Failed { code, reason }).await;
            return sender.finish();
        }
    };
    let pid = process.pid();
    if sender.message(&ProcessEvent::Started { pid }).await.is_err() {
        return kill_group(pid);
    }
    if detach {
        let _ = sender.message(&ProcessEvent::Exited(Exit::Code(0))).await;
        sender.finish();
        return process.abandon().await;
    }
    match process.carry((sender, receiver)).await {
        Carried::ToItsEnd => {}
        Carried::Detached(process) => return process.abandon().await,
        Carried::Lost(_) => kill_group(pid),
    }
    helpers.refill().await;
}

/// Why a command was not started.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u8,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(code: u8, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

fn kill_group(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}
