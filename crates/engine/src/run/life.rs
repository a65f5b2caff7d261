//! One life of a VM: a machine that runs its container, and the tasks around it.

use super::Hold;
use super::boot::Awake;
use super::container::{ContainerEnd, pump_output};
use super::lives::Lives;
use super::over::monitors_end;
use crate::console::Console;
use crate::control::{Ask, Control};
use crate::link::{GuestLink, ask};
use crate::snapshot::capture::{Live, MachineFiles};
use crate::volumes::{Renewal, Volumes};
use crate::{Engine, Error, Output, health, metadata};
use fcvm_link::{Incoming, Receiver, Session, Stream};
use fcvm_net::address::Translation;
use fcvm_net::{Egress, Metadata, Published};
use fcvm_proto::message::{Exit, GuestRequest, HostRequest, Power, ProcessEvent};
use fcvm_spec::lifecycle::Asked;
use fcvm_spec::{NetworkMode, Signal, VmSpec};
use fcvm_store::log::LogWriter;
use fcvm_store::snapshot::ContainerState;
use fcvm_store::{Health, HealthRecord, OwnedVm, VmRecord};
use fcvm_vmm::Machine;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::Instant;

/// Podman's default between the stop signal and SIGKILL, in seconds.
const STOP_TIMEOUT_S: u32 = 10;
/// How long a guest may take to kill its container.
const PATIENCE: Duration = Duration::from_secs(10);

/// A machine that runs its container, and the tasks around it.
pub(super) struct Life {
    pub(super) machine: Machine,
    pub(super) link: GuestLink,
    incoming: Incoming,
    pub(super) files: MachineFiles,
    volumes: Option<Volumes>,
    /// Kept until the machine has ended.
    _hold: Option<Hold>,
    egress: Egress,
    pub(super) metadata: Metadata,
    output: JoinHandle<ContainerEnd>,
    served: Option<JoinHandle<()>>,
    /// Connections of the guest, and questions to it.
    tasks: JoinSet<()>,
    /// What is found about the container's health.
    checks: (mpsc::Sender<HealthRecord>, mpsc::Receiver<HealthRecord>),
    watching: Option<AbortHandle>,
    /// What was asked of the VM since it began.
    pub(super) asked: Asked,
    /// When a container that was asked to stop is killed.
    deadline: Option<Instant>,
    /// When a guest that does not even let its container be killed is given up.
    patience: Option<Instant>,
}

/// What the loop has to act on.
pub(super) enum Happened {
    /// The container or its machine ended.
    Ended(ContainerEnd),
    /// Another process wants something.
    Asked(Ask),
    /// Nobody answers for the volumes any more.
    VolumesEnded(Renewal),
    /// Something in the guest wants the machine to end or to start anew.
    Pressed(Power, Stream),
    /// It was asked whether the container is well.
    Checked(HealthRecord),
}

impl Life {
    /// Starts the container, or takes over one that runs, and carries its streams.
    pub(super) async fn begin(
        vm: &OwnedVm,
        (awake, volumes): (Awake, Option<Volumes>),
        output: Option<mpsc::Sender<Output>>,
        console: &Console,
    ) -> Result<Self, Error> {
        let Awake { mut machine, link, incoming, files, first, states: _, hold } = awake;
        let container = start(link.session(), &mut machine, &first).await?;
        let spec = &vm.record().spec;
        let metadata = Metadata::new(metadata::tree(vm.record())?);
        let log = LogWriter::open(vm.dir().path(), spec.container.log_max_size.unwrap_or(LogWriter::DEFAULT_LIMIT))?;
        console.connect(Arc::new(container.sender));
        Ok(Self {
            output: tokio::spawn(pump_output(container.receiver, log, output, console.clone())),
            egress: Egress::new(translation(spec), metadata.clone()),
            metadata,
            machine,
            link,
            incoming,
            files,
            volumes,
            _hold: hold,
            served: None,
            tasks: JoinSet::new(),
            checks: mpsc::channel(1),
            watching: None,
            asked: Asked::Nothing,
            deadline: None,
            patience: None,
        })
    }

    /// From now on connections and commands reach the guest.
    pub(super) fn open(&mut self, ports: &Arc<Published>, control: &Control) {
        self.served = Some(tokio::spawn(ports.clone().serve(self.link.session().clone())));
        control.open(self.link.session().clone());
    }

    /// From now on it is asked whether the container is well, if that was wanted.
    pub(super) fn watch(&mut self, vm: &mut OwnedVm) -> Result<(), Error> {
        let spec = vm.record().spec.clone();
        if !health::is_watched(&spec.health) {
            return Ok(());
        }
        vm.update(|record| record.health = Some(Health::default()))?;
        self.watch_on(&spec);
        Ok(())
    }

    /// From now on it is asked again.
    pub(super) fn watch_on(&mut self, spec: &VmSpec) {
        if health::is_watched(&spec.health) {
            let watch = health::watch(spec.clone(), self.link.session().clone(), self.checks.0.clone());
            self.watching = Some(self.tasks.spawn(watch));
        }
    }

    /// From now on it is not asked; what was asked is not waited for.
    pub(super) fn watch_off(&mut self) {
        if let Some(watching) = self.watching.take() {
            watching.abort();
        }
        while self.checks.1.try_recv().is_ok() {}
    }

    /// Asks once more; what is found counts like any other check.
    pub(super) fn check(&mut self, spec: &VmSpec, answer: oneshot::Sender<Result<Option<HealthRecord>, String>>) {
        if !health::is_watched(&spec.health) {
            let _asker_is_gone = answer.send(Ok(None));
            return;
        }
        let (spec, session, checks) = (spec.clone(), self.link.session().clone(), self.checks.0.clone());
        self.tasks.spawn(async move {
            let check = health::check(&spec, &session).await;
            let _the_vm_is_ending = checks.send(check.clone()).await;
            let _asker_is_gone = answer.send(Ok(Some(check)));
        });
    }

    /// Waits for what the loop has to act on; what concerns only this life is done meanwhile.
    pub(super) async fn happens(&mut self, lives: &mut Lives<'_>) -> Happened {
        loop {
            tokio::select! {
                end = &mut self.output => {
                    return Happened::Ended(end.unwrap_or(ContainerEnd::Lost("its output was lost".to_owned())));
                }
                exit = self.machine.wait() => return Happened::Ended(ContainerEnd::Lost(format!("the monitor {exit}"))),
                Some(opened) = self.incoming.accept() => match opened.request() {
                    Ok(GuestRequest::Power(power)) => return Happened::Pressed(power, opened.stream),
                    _ => drop(self.tasks.spawn(self.egress.clone().serve(opened))),
                },
                Some(_) = self.tasks.join_next() => {}
                Some(signal) = lives.attachment.signals.recv() => self.signal(signal),
                renewal = volumes_ended(&mut self.volumes) => return Happened::VolumesEnded(renewal),
                asked = lives.control.ask() => return Happened::Asked(asked),
                Some(check) = self.checks.1.recv() => return Happened::Checked(check),
                () = overdue(self.deadline) => self.kill(),
                () = overdue(self.patience) => {
                    let exit = Exit::Signal(Signal::KILL.number());
                    return Happened::Ended(ContainerEnd::Exited { exit, oom_killed: false });
                }
            }
        }
    }

    pub(super) async fn renew_volumes(&mut self, engine: &Engine, spec: &VmSpec) -> Result<(), Error> {
        match &mut self.volumes {
            Some(volumes) => engine.renew_volumes(spec, self.link.session(), volumes).await,
            None => Ok(()),
        }
    }

    /// What a capture needs of it.
    pub(super) fn live<'a>(&'a self, record: &'a VmRecord) -> Live<'a> {
        let Self { machine, link, files, volumes, .. } = self;
        Live { record, machine, link, files, volumes: volumes.as_ref(), container: ContainerState::Running }
    }

    /// Ends its tasks.
    pub(super) fn abort(&mut self) {
        if let Some(served) = self.served.take() {
            served.abort();
        }
        self.output.abort();
    }

    /// Lets the container end, for this reason.
    pub(super) fn stop(&mut self, asked: Asked, spec: &VmSpec, timeout_s: Option<u32>) {
        self.asked = asked;
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
        let session = self.link.session().clone();
        self.tasks.spawn(async move {
            let request = HostRequest::Kill { signal: signal.number(), all: false };
            if let Err(error) = ask(&session, &request).await {
                tracing::debug!(%error, %signal, "a signal did not reach the container");
            }
        });
    }
}

async fn volumes_ended(volumes: &mut Option<Volumes>) -> Renewal {
    match volumes {
        Some(volumes) => volumes.ended().await,
        None => std::future::pending().await,
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
    let word = tokio::select! {
        word = receiver.recv() => word,
        exit = machine.wait() => return Err(no_guest(exit, machine)),
    };
    let item = match word.map_err(crate::control::refused).and_then(|item| item.ok_or(Error::Lost)) {
        Ok(item) => item,
        // A guest that goes takes its link with it before its monitor ends.
        Err(Error::Lost) => {
            return Err(monitors_end(machine).await.map_or(Error::Lost, |exit| no_guest(exit, machine)));
        }
        Err(error) => return Err(error),
    };
    match item.message() {
        Ok(ProcessEvent::Started { .. }) => Ok(Started { sender, receiver }),
        Ok(ProcessEvent::Failed { code, reason }) => Err(Error::Start { code, reason }),
        Ok(ProcessEvent::Exited(_) | ProcessEvent::OutOfMemory | ProcessEvent::Detached) | Err(_) => {
            Err(Error::Refused("the guest answered nonsense".to_owned()))
        }
    }
}

fn no_guest(exit: fcvm_vmm::Exit, machine: &Machine) -> Error {
    Error::NoGuest { reason: format!("its monitor {exit}"), console: machine.console().tail() }
}

fn translation(spec: &VmSpec) -> Option<Translation> {
    if spec.network == NetworkMode::None {
        return None;
    }
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let nameservers = fcvm_net::address::nameservers(&resolv_conf);
    Some(Translation { host_loopback: spec.network.host_loopback(), nameservers })
}
