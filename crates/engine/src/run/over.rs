//! The end of a life: how it was, what follows, and the end of its machine.

use super::RunOutcome;
use super::container::ContainerEnd;
use super::life::Life;
use super::lives::Lives;
use crate::error::in_full;
use crate::link::ask;
use crate::{Engine, Error};
use fcvm_link::Session;
use fcvm_proto::message::{Exit, HostRequest, ProcessEvent};
use fcvm_spec::Removal;
use fcvm_spec::lifecycle::{Asked, LifeEnd, Next};
use fcvm_store::{FailPoint, OwnedVm, What};
use fcvm_vmm::Machine;
use std::time::Duration;

/// How long those who are at a container may take to hear its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long a monitor may take to end once its guest has.
const MONITORS_END: Duration = Duration::from_secs(10);
/// How long a guest may take to write back and power off; its disk is consistent only then.
const POWER_OFF: Duration = Duration::from_secs(20);

/// A life that is over.
pub(super) struct Over {
    pub(super) next: Next,
    pub(super) outcome: RunOutcome,
}

impl Engine {
    /// Ends what is left when the container has ended, and says how that was and what follows.
    pub(super) async fn end(
        &self,
        vm: &OwnedVm,
        life: &mut Life,
        end: ContainerEnd,
        lives: &mut Lives<'_>,
    ) -> Result<Over, Error> {
        self.reach(FailPoint::Ended)?;
        let spec = &vm.record().spec;
        // What nobody needs any more does not begin anew.
        let asked = if matches!(end, ContainerEnd::Done | ContainerEnd::Unread) { Asked::Stop } else { life.asked };
        let over = judge(explain(end, &mut life.machine).await).map(|(end, outcome)| {
            let next = lives.after(end, asked, spec.restart);
            note_end(vm, end, asked, next, &outcome);
            Over { next, outcome }
        });
        lives.control.close();
        lives.control.console().end(last_word(over.as_ref().map(|over| &over.outcome)));
        life.abort();
        let outlives = spec.machine.disks.iter().any(|disk| !disk.read_only);
        let disk_goes =
            spec.removal == Removal::Automatic && !outlives && !matches!(&over, Ok(over) if over.next != Next::End);
        let heard = tokio::time::timeout(LAST_WORDS, lives.control.console().left());
        let disk = if disk_goes { Disk::Goes } else { Disk::Stays };
        let off = power_off(life.link.session(), &mut life.machine, disk);
        let (_some_may_not_have, ()) = tokio::join!(heard, off);
        self.reach(FailPoint::PoweredOff)?;
        over
    }
}

/// A link that ends says nothing of why; the monitor does, if it is what ended.
async fn explain(end: ContainerEnd, machine: &mut Machine) -> ContainerEnd {
    if !matches!(end, ContainerEnd::Lost(_)) {
        return end;
    }
    match monitors_end(machine).await {
        // A kernel that panics resets the machine too, and says so before.
        Some(fcvm_vmm::Exit::Reset) if !machine.console().tail().contains("Kernel panic") => ContainerEnd::Reset,
        Some(exit) => ContainerEnd::Lost(format!("the monitor {exit}")),
        None => end,
    }
}

/// How a monitor ended whose guest seems to be gone, if it has.
pub(super) async fn monitors_end(machine: &mut Machine) -> Option<fcvm_vmm::Exit> {
    tokio::time::timeout(MONITORS_END, machine.wait()).await.ok()
}

/// Writes down how a life ended and what follows it.
fn note_end(vm: &OwnedVm, end: LifeEnd, asked: Asked, next: Next, outcome: &RunOutcome) {
    if outcome.oom_killed {
        vm.note(What::Oom);
    }
    vm.note(What::Died { code: outcome.code });
    match (next, end, asked) {
        (Next::End, ..) => {}
        (_, LifeEnd::Rebooted, Asked::Nothing) => vm.note(What::Reboot),
        _ => vm.note(What::Restart { policy: vm.record().spec.restart }),
    }
}

fn judge(end: ContainerEnd) -> Result<(LifeEnd, RunOutcome), Error> {
    let ended = |code, reason| Ok((LifeEnd::Exited(code), RunOutcome { code, reason, oom_killed: false }));
    match end {
        ContainerEnd::Exited { exit, oom_killed } => {
            let outcome = RunOutcome { code: exit.code(), reason: None, oom_killed };
            Ok((life_end(exit), outcome))
        }
        ContainerEnd::NotStarted { code, reason } => Err(Error::Start { code, reason }),
        ContainerEnd::Reset => {
            let code = Exit::Signal(SIGHUP).code();
            Ok((LifeEnd::Rebooted, RunOutcome { code, reason: None, oom_killed: false }))
        }
        ContainerEnd::Done => ended(0, None),
        ContainerEnd::Unread => ended(141, Some("nobody reads its output any more".to_owned())),
        ContainerEnd::Lost(reason) => ended(125, Some(reason)),
    }
}

/// The first process of a container is deaf to this signal, unless it wants to hear it. It dies of it where one of its
/// processes has rebooted: then the kernel ends them all so.
fn life_end(exit: Exit) -> LifeEnd {
    if exit == Exit::Signal(SIGHUP) { LifeEnd::Rebooted } else { LifeEnd::Exited(exit.code()) }
}

const SIGHUP: i32 = 1;

/// What those who are at a container are told of its end.
fn last_word(outcome: Result<&RunOutcome, &Error>) -> ProcessEvent {
    match outcome {
        Ok(RunOutcome { code, reason: None, .. }) => ProcessEvent::Exited(Exit::Code(*code)),
        Ok(RunOutcome { code, reason: Some(reason), .. }) => {
            ProcessEvent::Failed { code: *code, reason: reason.clone() }
        }
        Err(error) => ProcessEvent::Failed { code: error.exit_code(), reason: in_full(error) },
    }
}

/// What becomes of a machine's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Stays,
    Goes,
}

/// Ends the machine: in good order where its disk stays, at once where it goes.
pub(super) async fn power_off(session: &Session, machine: &mut Machine, disk: Disk) {
    if disk == Disk::Stays {
        let orderly = async {
            ask(session, &HostRequest::PowerOff).await?;
            machine.wait().await;
            Ok::<(), Error>(())
        };
        match tokio::time::timeout(POWER_OFF, orderly).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::debug!(%error, "the guest did not power off"),
            Err(_) => tracing::warn!("the guest did not power off in {} s", POWER_OFF.as_secs()),
        }
    }
    machine.kill().await;
}
