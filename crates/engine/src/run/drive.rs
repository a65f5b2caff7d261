//! The fourth phase: one loop over everything that can happen to a running VM.

use super::asked::Around;
use super::boot::{Awake, Booted};
use super::container::{ContainerEnd, pump_output};
use super::lives::Lives;
use super::over::{Over, monitors_end};
use super::{Hold, advance, now_ns};
use crate::cache::Warm;
use crate::console::Console;
use crate::control::{Ask, Control};
use crate::link::{GuestLink, ask};
use crate::snapshot::capture::{Copy, Live, MachineFiles};
use crate::volumes::{Renewal, Volumes};
use crate::{Engine, Error, Output, health, metadata};
use fcvm_link::{Incoming, Receiver, Session, Stream};
use fcvm_net::address::Translation;
use fcvm_net::{Egress, Metadata, Published};
use fcvm_proto::message::{Exit, GuestRequest, HostRequest, Power, ProcessEvent};
use fcvm_spec::lifecycle::{Asked, Event};
use fcvm_spec::{NetworkMode, Signal, VmSpec};
use fcvm_store::log::LogWriter;
use fcvm_store::snapshot::ContainerState;
use fcvm_store::{FailPoint, Health, HealthRecord, HealthStatus, OwnedVm, VmRecord, What};
use fcvm_vmm::Machine;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

/// Podman's default between the stop signal and SIGKILL, in seconds.
const STOP_TIMEOUT_S: u32 = 10;
/// How long a guest may take to kill its container.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Runs the container to its end and the machine to its power-off.
    pub(super) async fn drive(&self, vm: &mut OwnedVm, booted: Booted, lives: &mut Lives<'_>) -> Result<Over, Error> {
        let Booted { awake, ports, mut warm } = booted;
        let volumes = self.attach_volumes(&vm.record().spec, awake.link.session(), awake.states.clone()).await?;
        note_answering(vm, volumes.as_ref())?;
        let mut life =
            Life::begin(vm, (awake, volumes), lives.attachment.output.clone(), lives.control.console()).await?;
        self.reach(FailPoint::Started)?;
        self.note_use_of_volumes(&vm.record().spec.container)?;
        vm.update(|record| {
            crate::volumes::settle::used(&mut record.spec.container);
            advance(record, Event::Started);
            record.started_ns = Some(now_ns());
            record.known = true;
        })?;
        vm.note(What::Start);
        life.open(&ports, &lives.control);
        life.watch(vm)?;
        self.reach(FailPoint::StartRecorded)?;
        lives.announce(vm.record());
        self.reach(FailPoint::Running)?;
        let mut filling = None;
        let end = loop {
            let happened = match (&warm, &vm.record().health) {
                // Nobody can tell whether it is well: that it runs is all that can be wanted.
                (Warm::Wanted(..), None) => Happened::Well,
                _ => life.happens(lives).await,
            };
            match happened {
                Happened::Ended(end) => break end,
                Happened::Checked(check) => {
                    let health = judge_health(vm.record(), check);
                    if health.status == HealthStatus::Unhealthy && matches!(warm, Warm::Wanted(..)) {
                        let said = health.log.last().map(|check| check.output.trim().to_owned()).unwrap_or_default();
                        return Err(Error::NotWell { said });
                    }
                    if health.status == HealthStatus::Healthy {
                        match std::mem::take(&mut warm) {
                            Warm::Unused => {}
                            Warm::Cached(key, claim) => {
                                filling = self.fill(&life.live(vm.record()), Copy::Ahead, (key, claim)).await;
                            }
                            wanted @ Warm::Wanted(..) => {
                                self.capture_wanted(&life.live(vm.record()), wanted).await?;
                                break ContainerEnd::Done;
                            }
                        }
                    }
                    // Said only now: what is called healthy does not stand still.
                    let status = health.status;
                    let before = vm.record().health.as_ref().map(|health| health.status);
                    vm.update(|record| record.health = Some(health))?;
                    if before != Some(status) {
                        vm.note(What::Health { status });
                    }
                }
                Happened::Well => {
                    self.capture_wanted(&life.live(vm.record()), std::mem::take(&mut warm)).await?;
                    break ContainerEnd::Done;
                }
                Happened::VolumesEnded(Renewal::Useless) => {}
                Happened::VolumesEnded(Renewal::Worthwhile) => {
                    if let Err(error) = life.renew_volumes(self, &vm.record().spec).await {
                        tracing::warn!(%error, "the volumes are served no more");
                    }
                }
                Happened::Pressed(power, stream) => self.press(power, stream, vm, &mut life).await?,
                Happened::Asked(ask) => {
                    self.act_on(ask, vm, &mut life, &mut Around { lives, ports: &ports }).await?;
                }
            }
        };
        let over = self.end(vm, &mut life, end, lives).await;
        if let Some(filling) = filling {
            // It has logged what went wrong.
            let _: Result<(), JoinError> = filling.await;
        }
        over
    }
}

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
enum Happened {
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
    /// The container is as well as can be told.
    Well,
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
    async fn happens(&mut self, lives: &mut Lives<'_>) -> Happened {
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

    async fn renew_volumes(&mut self, engine: &Engine, spec: &VmSpec) -> Result<(), Error> {
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

/// Adds to a restored machine's receipt that its volumes answer.
pub(super) fn note_answering(vm: &mut OwnedVm, volumes: Option<&Volumes>) -> Result<(), Error> {
    let Some(volumes) = volumes else { return Ok(()) };
    if vm.record().restored.is_none() {
        return Ok(());
    }
    Ok(vm.update(|record| {
        let receipt = record.restored.as_mut().and_then(|restored| restored.receipt.as_mut());
        receipt.into_iter().for_each(|receipt| receipt.volumes = volumes.count());
    })?)
}

/// What is said of a container after one more check.
fn judge_health(record: &VmRecord, check: HealthRecord) -> Health {
    let up_ns = check.end_ns.saturating_sub(record.started_ns.unwrap_or(check.end_ns));
    let up = Duration::from_nanos(u64::try_from(up_ns).unwrap_or(0));
    health::after(&record.health.clone().unwrap_or_default(), check, &record.spec.health, up)
}

fn translation(spec: &VmSpec) -> Option<Translation> {
    if spec.network == NetworkMode::None {
        return None;
    }
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let nameservers = fcvm_net::address::nameservers(&resolv_conf);
    Some(Translation { host_loopback: spec.network.host_loopback(), nameservers })
}
