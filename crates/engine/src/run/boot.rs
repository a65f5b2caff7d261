//! The third phase: a machine whose guest has greeted and knows what it is.

use super::prepare::{Beginning, Prepared};
use super::{Hold, now_ns};
use crate::cache::Warm;
use crate::disks::{self, ExtraDisk};
use crate::error::in_full;
use crate::link::{Carrier, GuestLink};
use crate::snapshot::capture::{Live, MachineFiles};
use crate::snapshot::clone::{Lent, delta, first_request, lend, settled};
use crate::{Engine, Error, clock};
use fcvm_link::Incoming;
use fcvm_link::greeting::{self, GreetingError};
use fcvm_net::Published;
use fcvm_proto::message::{Hello, HostRequest, PROTOCOL, Verdict};
use fcvm_proto::plan::Plan;
use fcvm_proto::restore::{Delta, RestoreReport};
use fcvm_spec::{DiskFormat, SnapshotId, VmSpec};
use fcvm_store::snapshot::ContainerState;
use fcvm_store::{FailPoint, Monitor, OwnedVm, Owner, Receipt, VmRecord};
use fcvm_vmm::{Access, Choice, Disk, Machine, MachineSpec, Origin};
use fcvm_volume::State;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A machine that listens, and the ports that lead to it.
#[derive(Debug)]
pub(crate) struct Booted {
    pub(super) awake: Awake,
    pub(super) ports: Arc<Published>,
    pub(super) warm: Warm,
}

impl Booted {
    /// What a capture needs of it before its container starts.
    pub(super) fn live<'a>(&'a self, record: &'a VmRecord) -> Live<'a> {
        let Awake { machine, link, files, .. } = &self.awake;
        Live { record, machine, link, files, volumes: None, container: ContainerState::Unstarted }
    }
}

/// A machine that listens.
#[derive(Debug)]
pub(crate) struct Awake {
    pub(crate) machine: Machine,
    pub(crate) link: GuestLink,
    pub(super) incoming: Incoming,
    pub(crate) files: MachineFiles,
    /// What brings the container's streams.
    pub(super) first: HostRequest,
    /// What its volumes were in the snapshot, in one that had them.
    pub(super) states: Vec<State>,
    pub(super) hold: Option<Hold>,
}

/// How long a guest may take to greet. A loaded host with software emulation needs tens of seconds at worst.
const GREETING: Duration = Duration::from_secs(60);
/// A guest that hangs at boot is tried once more: timer calibration under emulation can fail by chance.
const ATTEMPTS: usize = 2;

impl Engine {
    pub(super) async fn boot(&self, vm: &mut OwnedVm, prepared: Prepared) -> Result<Booted, Error> {
        let Prepared { choice, beginning, ports, files, hold, cache: _, warm } = prepared;
        let run_dir = vm.dir().run_dir();
        make_run_dir(&run_dir)?;
        fcvm_store::make_cgroup(&vm.record().spec)?;
        self.reach(FailPoint::RunDirectory)?;
        let spec = |origin| machine_spec(&choice, &vm.record().spec, origin, &files, &run_dir);
        let (machine, Greeted { link, incoming }, first, (states, hold)) = match beginning {
            Beginning::Boot { kernel, initramfs, plan } => {
                let spec = spec(Origin::Boot { kernel, initramfs })?;
                let (machine, greeted) = self.boot_fresh(vm, &spec, &plan).await?;
                (machine, greeted, HostRequest::Start, (Vec::new(), hold))
            }
            Beginning::Wake { saved, delta, container, states } => {
                let spec = spec(Origin::Saved(saved))?;
                let (machine, greeted) = self.wake(vm, &spec, *delta, container).await?;
                // The VM has links of its own to all that it uses from now on.
                drop(hold);
                (machine, greeted, first_request(container), (states, None))
            }
        };
        Ok(Booted { awake: Awake { machine, link, incoming, files, first, states, hold }, ports, warm })
    }

    /// Makes the machine that is to take the place of a running one, which is not touched.
    pub(super) async fn boot_next(&self, vm: &mut OwnedVm, choice: &Choice, id: &SnapshotId) -> Result<Awake, Error> {
        if let Some(path) = disks::written_outside(vm.dir(), &vm.record().spec.machine) {
            return Err(Error::DiskStays(path));
        }
        let dir = vm.dir().make_next()?;
        let lent = lend(&dir, &self.store().find_snapshot(id.as_str())?, choice)?;
        let Lent { manifest, saved, files, states, .. } = &lent;
        let (was, is) = (&manifest.spec.machine, &vm.record().spec.machine);
        if (was, &manifest.image_digest) != (is, &vm.record().image_digest) {
            return Err(Error::OtherVm { what: "another image or machine" });
        }
        if manifest.container == ContainerState::Unstarted {
            return Err(Error::OtherVm { what: "no running container" });
        }
        let spec = machine_spec(choice, &vm.record().spec, Origin::Saved(saved.clone()), files, &dir)?;
        let delta = delta(&vm.record().spec);
        let (machine, Greeted { link, incoming }) = self.wake(vm, &spec, delta, manifest.container).await?;
        // By the names that they have once they have taken the place of the others.
        let mut files = MachineFiles::lent(vm.dir().path(), files.extra.clone());
        files.extra.iter_mut().for_each(|disk| disk.move_to(&dir, vm.dir().path()));
        let states = settled(states.clone(), &manifest.spec, &vm.record().spec)?;
        Ok(Awake { machine, link, incoming, files, first: HostRequest::Attach, states, hold: None })
    }

    async fn boot_fresh(&self, vm: &mut OwnedVm, spec: &MachineSpec, plan: &Plan) -> Result<(Machine, Greeted), Error> {
        let mut failure = None;
        for attempt in 1..=ATTEMPTS {
            let mut machine = fcvm_vmm::boot(spec, &self.settings().entrance()).await?;
            self.reach(FailPoint::Monitor)?;
            record_monitor(vm, &machine)?;
            self.reach(FailPoint::MonitorRecorded)?;
            match greet(&mut machine, |hello| boot_verdict(hello, plan)).await {
                Ok((carrier, hello)) => {
                    self.reach(FailPoint::Greeted)?;
                    return Ok((machine, Greeted::start(carrier, hello)));
                }
                Err(reason) => {
                    tracing::warn!(attempt, reason, "the guest did not greet");
                    failure = Some(Error::NoGuest { reason, console: machine.console().tail() });
                    machine.kill().await;
                }
            }
        }
        Err(failure.expect("at least one attempt was made"))
    }

    /// Starts a saved machine and makes it another one. Nobody sees it before all of its receipt is right.
    async fn wake(
        &self,
        vm: &mut OwnedVm,
        spec: &MachineSpec,
        delta: Delta,
        container: ContainerState,
    ) -> Result<(Machine, Greeted), Error> {
        let begun = Instant::now();
        let mut machine = fcvm_vmm::boot(spec, &self.settings().entrance()).await?;
        self.reach(FailPoint::Monitor)?;
        record_monitor(vm, &machine)?;
        self.reach(FailPoint::MonitorRecorded)?;
        let failed = |reason, machine: &Machine| Error::NoGuest { reason, console: machine.console().tail() };
        let told = delta.clone();
        let greeted = greet(&mut machine, move |hello| wake_verdict(hello, told)).await;
        let (mut carrier, hello) = greeted.map_err(|reason| failed(reason, &machine))?;
        self.reach(FailPoint::Greeted)?;
        let report = tokio::time::timeout(GREETING, greeting::hear_report(&mut carrier.reader)).await;
        let report = match report {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => return Err(failed(explain(&error, &mut machine).await, &machine)),
            Err(_) => return Err(failed(silence(), &machine)),
        };
        let receipt = check(report, &delta, container)?;
        let (generation, greeted) = (hello.generation, Greeted::start(carrier, hello));
        let clock = tokio::time::timeout(GREETING, clock::set(greeted.link.session())).await;
        let receipt = Receipt {
            clock_after_ns: clock.map_err(|_| failed(silence(), &machine))??,
            clock_before_ns: receipt.clock_before_ns,
            epoch: receipt.epoch,
            random: receipt.random,
            hostname: receipt.hostname,
            machine_id: receipt.machine_id,
            connections: receipt.connections,
            volumes: 0,
            generation,
            restore_us: u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        vm.update(|record| {
            if let Some(restored) = &mut record.restored {
                restored.receipt = Some(receipt);
            }
        })?;
        Ok((machine, greeted))
    }
}

fn make_run_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|source| Error::RunDir { path: path.to_owned(), source })
}

fn machine_spec(
    choice: &Choice,
    spec: &VmSpec,
    origin: Origin,
    files: &MachineFiles,
    run_dir: &Path,
) -> Result<MachineSpec, Error> {
    Ok(MachineSpec {
        choice: choice.clone(),
        cpus: spec.machine.cpus,
        memory: spec.machine.memory,
        pages: spec.machine.pages,
        origin,
        disks: disks(files),
        cgroups: fcvm_store::cgroup_directories(spec)?,
        run_dir: run_dir.to_owned(),
    })
}

/// In the order of the device names of a plan: system, image, scratch, the user's.
fn disks(files: &MachineFiles) -> Vec<Disk> {
    let disk = |path: &Path, access| Disk { path: path.to_owned(), format: DiskFormat::Raw, access };
    let own: [Disk; disks::OWN] = [
        disk(&files.system, Access::ReadOnly),
        disk(&files.image, Access::ReadOnly),
        disk(&files.scratch, Access::ReadWrite),
    ];
    own.into_iter().chain(files.extra.iter().map(ExtraDisk::for_monitor)).collect()
}

/// Holds a report against what was told. A line that is not as it should be fails the restore by its name.
fn check(
    report: RestoreReport,
    told: &Delta,
    container: ContainerState,
) -> Result<fcvm_proto::restore::Receipt, Error> {
    let receipt = match report {
        RestoreReport::Restored(receipt) => receipt,
        RestoreReport::Failed { step, reason } => return Err(Error::NotAwake { step, reason }),
    };
    let wrong = |step: &str, reason: String| Err(Error::NotAwake { step: step.to_owned(), reason });
    for (step, is, should) in [
        ("epoch", &receipt.epoch, &told.epoch),
        ("host name", &receipt.hostname, &told.hostname),
        ("machine id", &receipt.machine_id, &told.machine_id),
    ] {
        if is != should {
            return wrong(step, format!("it is {is:?} and should be {should:?}"));
        }
    }
    if receipt.random.len() != 32 || !receipt.random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return wrong("random pool", "it gave no bytes".to_owned());
    }
    if (container == ContainerState::Running) != receipt.container.is_some() {
        return wrong("container", "it does not run, although it ran in the snapshot".to_owned());
    }
    Ok(receipt)
}

fn record_monitor(vm: &mut OwnedVm, machine: &Machine) -> Result<(), Error> {
    let process = Owner::of(machine.pid()).unwrap_or(Owner { pid: machine.pid(), start_time: 0 });
    let choice = machine.choice();
    let monitor = Monitor {
        process,
        backend: choice.backend.to_string(),
        accel: choice.accel.to_string(),
        reason: choice.reason.clone(),
    };
    Ok(vm.update(|record| record.monitor = Some(monitor))?)
}

/// A session with a guest.
struct Greeted {
    link: GuestLink,
    incoming: Incoming,
}

impl Greeted {
    fn start(carrier: Carrier, hello: Hello) -> Self {
        let (link, incoming) = GuestLink::start(carrier, hello);
        Self { link, incoming }
    }
}

/// Hears the guest's `Hello` and tells it what it is; the reason in words if that fails.
///
/// The byte of the knock is for a guest that was saved; one that boots drops it as what an older life left.
async fn greet(machine: &mut Machine, verdict: impl FnOnce(&Hello) -> Verdict) -> Result<(Carrier, Hello), String> {
    let line = machine.take_line().ok_or("its link was taken")?;
    let greeted = async {
        let mut carrier = Carrier::first(line).await?;
        greeting::knock(&mut carrier.writer).await?;
        let greeted = greeting::host_greeting(&mut carrier.reader, &mut carrier.writer, verdict).await?;
        Ok((carrier, greeted))
    };
    let heard = tokio::select! {
        heard = tokio::time::timeout(GREETING, greeted) => heard,
        exit = machine.wait() => return Err(format!("its monitor {exit}")),
    };
    let (carrier, greeted) = match heard {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => return Err(explain(&error, machine).await),
        Err(_) => return Err(silence()),
    };
    match greeted.verdict {
        Verdict::Refused { reason } => Err(reason),
        _ => Ok((carrier, greeted.hello)),
    }
}

/// A link that ends says nothing of why; the monitor does, if it is what ended.
async fn explain(error: &GreetingError, machine: &mut Machine) -> String {
    match tokio::time::timeout(Duration::from_secs(1), machine.wait()).await {
        Ok(exit) => format!("its monitor {exit}"),
        Err(_) => in_full(error),
    }
}

fn silence() -> String {
    format!("nothing was heard of it for {} s", GREETING.as_secs())
}

fn boot_verdict(hello: &Hello, plan: &Plan) -> Verdict {
    refusal(hello).unwrap_or_else(|| Verdict::Boot(Box::new(Plan { time_ns: now_ns(), ..plan.clone() })))
}

fn wake_verdict(hello: &Hello, delta: Delta) -> Verdict {
    refusal(hello).unwrap_or_else(|| Verdict::Restored(Box::new(Delta { time_ns: now_ns(), ..delta })))
}

fn refusal(hello: &Hello) -> Option<Verdict> {
    (hello.protocol != PROTOCOL).then(|| Verdict::Refused {
        reason: format!("the agent speaks protocol {}, this fcvm speaks {PROTOCOL}; run `fcvm setup`", hello.protocol),
    })
}
