//! The fourth phase: one loop over everything that can happen to a running VM.

use super::boot::Booted;
use super::container::{ContainerEnd, pump_input, pump_output};
use super::{RunObserver, RunOutcome, advance, now_ns};
use crate::control::{Ask, CaptureAnswer, Control};
use crate::snapshot::capture::Live;
use crate::{Attachment, Engine, Error};
use fcvm_link::{Receiver, Session};
use fcvm_net::Egress;
use fcvm_net::address::Translation;
use fcvm_proto::message::{Done, Exit, HostRequest, ProcessEvent};
use fcvm_spec::lifecycle::Event;
use fcvm_spec::{NetworkMode, Removal, Signal, VmSpec};
use fcvm_store::log::LogWriter;
use fcvm_store::snapshot::ContainerState;
use fcvm_store::{FailPoint, OwnedVm};
use fcvm_vmm::Machine;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Podman's default between the stop signal and SIGKILL, in seconds.
const STOP_TIMEOUT_S: u32 = 10;
/// How long a guest may take to kill its container.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest may take to write back and power off; its disk is consistent only then.
const POWER_OFF: Duration = Duration::from_secs(20);

impl Engine {
    /// Runs the container to its end and the machine to its power-off.
    pub(super) async fn drive(
        &self,
        vm: &mut OwnedVm,
        booted: Booted,
        attachment: &mut Attachment,
        mut control: Control,
        observer: &dyn RunObserver,
    ) -> Result<RunOutcome, Error> {
        let Booted { mut machine, link, mut incoming, ports, files, first, hold } = booted;
        let session = link.session().clone();
        let container = start(&session, &mut machine, &first).await?;
        self.reach(FailPoint::Started)?;
        vm.update(|record| {
            advance(record, Event::Started);
            record.started_ns = Some(now_ns());
        })?;
        let log_limit = vm.record().spec.container.log_max_size.unwrap_or(LogWriter::DEFAULT_LIMIT);
        let log = LogWriter::open(vm.dir().path(), log_limit)?;
        let output = tokio::spawn(pump_output(container.receiver, log, attachment.output.take()));
        let input = tokio::spawn(pump_input(container.sender, attachment.stdin.take()));
        let served = tokio::spawn(ports.serve(session.clone()));
        control.open(session.clone());
        self.reach(FailPoint::StartRecorded)?;
        observer.started(vm.record());
        self.reach(FailPoint::Running)?;

        let egress = Egress::new(translation(&vm.record().spec));
        let mut running =
            Running { session: session.clone(), output, tasks: JoinSet::new(), deadline: None, patience: None };
        let end = loop {
            tokio::select! {
                end = &mut running.output => break end.unwrap_or(ContainerEnd::Lost("its output was lost".to_owned())),
                exit = machine.wait() => break ContainerEnd::Lost(format!("the monitor {exit}")),
                Some(opened) = incoming.accept() => {
                    running.tasks.spawn(egress.clone().serve(opened));
                }
                Some(_) = running.tasks.join_next() => {}
                Some(signal) = attachment.signals.recv() => running.signal(signal),
                asked = control.ask() => match asked {
                    Ask::Stop(timeout_s) => {
                        vm.update(|record| advance(record, Event::StopAsked))?;
                        running.stop(&vm.record().spec, timeout_s);
                    }
                    Ask::Capture(request, answer) => {
                        let (record, container) = (vm.record(), ContainerState::Running);
                        let live = Live { record, machine: &machine, link: &link, files: &files, container };
                        let captured = self.capture(&live, request).await;
                        let _asker_is_gone = answer.send(captured.map_or_else(
                            |error| CaptureAnswer::Failed(in_full(&error)),
                            CaptureAnswer::Captured,
                        ));
                    }
                },
                () = overdue(running.deadline) => running.kill(),
                () = overdue(running.patience) => {
                    break ContainerEnd::Exited { exit: Exit::Signal(Signal::KILL.number()), oom_killed: false };
                }
            }
        };
        self.reach(FailPoint::Ended)?;
        let outcome = judge(explain(end, &mut machine).await);
        if let Ok(outcome) = &outcome {
            control.ended(outcome.code);
        }
        served.abort();
        input.abort();
        power_off(&session, &mut machine, vm.record().spec.removal).await;
        self.reach(FailPoint::PoweredOff)?;
        drop((link, hold));
        outcome
    }
}

/// An error with all of its causes.
fn in_full(error: &Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What the loop changes.
struct Running {
    session: Session,
    output: JoinHandle<ContainerEnd>,
    /// Connections of the guest, and questions to it.
    tasks: JoinSet<()>,
    /// When a container that was asked to stop is killed.
    deadline: Option<Instant>,
    /// When a guest that does not even let its container be killed is given up.
    patience: Option<Instant>,
}

impl Running {
    fn stop(&mut self, spec: &VmSpec, timeout_s: Option<u32>) {
        let seconds = timeout_s.or(spec.container.stop_timeout).unwrap_or(STOP_TIMEOUT_S);
        self.deadline = Some(Instant::now() + Duration::from_secs(seconds.into()));
        let signal = spec.container.stop_signal.unwrap_or(Signal::TERM);
        self.signal(signal);
    }

    fn kill(&mut self) {
        self.deadline = None;
        self.patience = Some(Instant::now() + PATIENCE);
        self.signal(Signal::KILL);
    }

    /// Sends a signal without waiting for the guest's answer: it may never come.
    fn signal(&mut self, signal: Signal) {
        let session = self.session.clone();
        self.tasks.spawn(async move {
            let request = HostRequest::Kill { signal: signal.number(), all: false };
            if let Err(error) = ask(&session, &request).await {
                tracing::debug!(%error, %signal, "a signal did not reach the container");
            }
        });
    }
}

async fn overdue(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

struct Started {
    sender: fcvm_link::Sender,
    receiver: Receiver,
}

/// Starts the container and waits for its first word.
async fn start(session: &Session, machine: &mut Machine, first: &HostRequest) -> Result<Started, Error> {
    let (sender, mut receiver) = session.open(first).map_err(|_| Error::Lost)?.split();
    let item = tokio::select! {
        item = receiver.recv() => item.map_err(crate::control::refused)?.ok_or(Error::Lost)?,
        exit = machine.wait() => {
            let reason = format!("its monitor {exit}");
            return Err(Error::NoGuest { reason, console: machine.console().tail() });
        }
    };
    match item.message() {
        Ok(ProcessEvent::Started { .. }) => Ok(Started { sender, receiver }),
        Ok(ProcessEvent::Failed { code, reason }) => Err(Error::Start { code, reason }),
        Ok(ProcessEvent::Exited(_) | ProcessEvent::OutOfMemory) | Err(_) => {
            Err(Error::Refused("the guest answered nonsense".to_owned()))
        }
    }
}

/// A link that ends says nothing of why; the monitor does, if it is what ended.
async fn explain(end: ContainerEnd, machine: &mut Machine) -> ContainerEnd {
    if !matches!(end, ContainerEnd::Lost(_)) {
        return end;
    }
    match tokio::time::timeout(Duration::from_secs(1), machine.wait()).await {
        Ok(exit) => ContainerEnd::Lost(format!("the monitor {exit}")),
        Err(_) => end,
    }
}

fn judge(end: ContainerEnd) -> Result<RunOutcome, Error> {
    let ended = |code, reason| Ok(RunOutcome { code, reason, oom_killed: false });
    match end {
        ContainerEnd::Exited { exit, oom_killed } => Ok(RunOutcome { code: exit.code(), reason: None, oom_killed }),
        ContainerEnd::NotStarted { code, reason } => Err(Error::Start { code, reason }),
        ContainerEnd::Unread => ended(141, Some("nobody reads its output any more".to_owned())),
        ContainerEnd::Lost(reason) => ended(125, Some(reason)),
    }
}

/// Ends the machine: in good order where its disk stays, at once where it goes.
async fn power_off(session: &Session, machine: &mut Machine, removal: Removal) {
    if removal == Removal::Keep {
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

/// Asks the guest for something that carries nothing.
pub(crate) async fn ask(session: &Session, request: &HostRequest) -> Result<(), Error> {
    let (sender, mut receiver) = session.open(request).map_err(|_| Error::Lost)?.split();
    let item = receiver.recv().await.map_err(crate::control::refused)?.ok_or(Error::Lost)?;
    sender.finish();
    match item.message() {
        Ok(Done::Ok) => Ok(()),
        Ok(Done::Failed(reason)) => Err(Error::Refused(reason)),
        Err(error) => Err(Error::Refused(format!("the guest answered nonsense: {error}"))),
    }
}

fn translation(spec: &VmSpec) -> Option<Translation> {
    if spec.network == NetworkMode::None {
        return None;
    }
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let nameservers = fcvm_net::address::nameservers(&resolv_conf);
    Some(Translation { host_loopback: spec.network.host_loopback(), nameservers })
}
