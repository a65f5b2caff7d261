//! The second phase: everything that can be had before there is a machine. What is busy or missing is known here.

use super::{Attendance, Goal, Publish, RunObserver, RunRequest, now_ns};
use crate::cache::{Cache, CacheKey, Making, Warm};
use crate::health;
use crate::plan::{self, HostFacts};
use crate::snapshot::capture::MachineFiles;
use crate::snapshot::clone::delta;
use crate::{Engine, Error, Settings, metadata};
use fcvm_artifacts::{Set, System};
use fcvm_image::{Image, ImageLock, PullOptions, PullPolicy};
use fcvm_net::Published;
use fcvm_proto::message::TerminalSize;
use fcvm_proto::plan::Plan;
use fcvm_proto::restore::Delta;
use fcvm_spec::{
    KernelChoice, MachineShape, PageSize, PortMapping, Protocol, RootKind, Signal, SnapshotId, SnapshotPolicy, Stdin,
    VmSpec, VolumeSpec,
};
use fcvm_store::snapshot::{CacheClaim, ContainerState, SnapshotDir, SnapshotHold};
use fcvm_store::{FailPoint, OwnedVm};
use fcvm_vmm::{Choice, Probe, Saved};
use fcvm_volume::State;
use oci_spec::image::ImageConfiguration;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A VM that only lacks its machine.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) choice: Choice,
    pub(crate) beginning: Beginning,
    pub(crate) ports: Arc<Published>,
    pub(crate) files: MachineFiles,
    /// None: it has links of its own to all that it uses.
    pub(crate) hold: Option<Hold>,
    pub(crate) cache: CacheUse,
    /// What becomes of the machine once its container is well.
    pub(crate) warm: Warm,
}

/// What a run has to do with the cache.
#[derive(Debug)]
pub(crate) enum CacheUse {
    /// Nothing.
    None,
    /// It starts from this snapshot.
    From(CacheKey, SnapshotId),
    /// It fills it.
    Fill(CacheKey, CacheClaim),
}

/// How the machine begins, and what its guest is told.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// It boots.
    Boot { kernel: PathBuf, initramfs: PathBuf, plan: Box<Plan> },
    /// It wakes up from a snapshot.
    Wake { saved: Saved, delta: Box<Delta>, container: ContainerState, states: Vec<State> },
}

/// Keeps others from removing what the VM uses.
#[derive(Debug)]
pub(crate) enum Hold {
    /// `rmi` from the image's disk, while the VM lives.
    Image { _lock: ImageLock },
    /// `snapshot rm` from the files that are read while the machine wakes up.
    Snapshot { _hold: SnapshotHold },
}

/// What a machine of an image starts from.
struct Start {
    beginning: Beginning,
    files: MachineFiles,
    hold: Hold,
    cache: CacheUse,
}

impl Start {
    fn prepared(self, choice: Choice, ports: Arc<Published>, warm: Warm) -> Prepared {
        let Self { beginning, files, hold, cache } = self;
        Prepared { choice, beginning, ports, files, hold: Some(hold), cache, warm }
    }
}

impl Engine {
    pub(super) async fn prepare(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        policy: SnapshotPolicy,
        observer: &dyn RunObserver,
    ) -> Result<Prepared, Error> {
        crate::volumes::settle::check_paths(&request.spec.container)?;
        self.check_disks(&request.spec)?;
        let policy = if is_its_own(&request.spec.machine) { SnapshotPolicy::Never } else { policy };
        let set = self.boot_set(&request.spec)?;
        self.reach(FailPoint::Artifacts)?;
        let image = match vm.record().image_digest {
            Some(_) => self.image_of(vm.record())?,
            None => self.ensure_image(&request.spec, &self.pull_options(request.pull), observer.image())?,
        };
        let lock = self.images().hold(&image)?;
        self.reach(FailPoint::Image)?;
        let ports = Arc::new(Published::bind(&mappings(request, &image.config)).await?);
        self.reach(FailPoint::Ports)?;
        let plan = self.settle_plan(vm, request, &image, &ports)?;
        self.reach(FailPoint::Planned)?;
        let choice = self.choose(&request.spec)?;
        let key = CacheKey::of(&request.spec, &image.digest, &set, &choice);
        let warm_key = key.warm(&vm.record().spec);
        let (warm, well) = self.look_up_warm(vm, request, policy, warm_key)?;
        if let Some(cached) = well {
            let delta = delta(&vm.record().spec);
            if let Some(start) = self.wake_from_cache(vm, cached, &choice, delta)? {
                return Ok(start.prepared(choice, ports, warm));
            }
        }
        let found = if policy == SnapshotPolicy::Allowed { self.look_up(key, Making::Allowed) } else { Cache::Off };
        let cache = match found {
            Cache::Hit(key, snapshot) => {
                let delta = Delta { container: Some(plan.container.clone()), ..delta(&vm.record().spec) };
                if let Some(start) = self.wake_from_cache(vm, (key, snapshot), &choice, delta)? {
                    return Ok(start.prepared(choice, ports, warm));
                }
                CacheUse::None
            }
            Cache::Miss(key, claim) => CacheUse::Fill(key, claim),
            Cache::Off => CacheUse::None,
        };
        let scratch = vm.dir().scratch_disk();
        self.artifacts().instantiate_scratch(&scratch, request.spec.rootfs_size, &self.settings().search_path)?;
        self.reach(FailPoint::Scratch)?;
        let extra = self.ready_disks(vm.dir(), &vm.record().spec.machine)?;
        let start = Start {
            beginning: Beginning::Boot { kernel: set.kernel, initramfs: set.initramfs, plan: Box::new(plan) },
            files: MachineFiles { system: set.system, image: image.disk, scratch, extra, memory: None },
            hold: Hold::Image { _lock: lock },
            cache,
        };
        Ok(start.prepared(choice, ports, warm))
    }

    /// Says what the machine is to run, and writes it into the record.
    fn settle_plan(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        image: &Image,
        ports: &Published,
    ) -> Result<Plan, Error> {
        metadata::check(&request.spec.metadata)?;
        let terminal = match request.attendance {
            Attendance::Owner => TerminalSize::default(),
            Attendance::Client(size) => size,
        };
        let mut container = vm.record().spec.container.clone();
        self.settle_volumes(&mut container, &image.config)?;
        let asked = VmSpec { container, ..request.spec.clone() };
        note_plan(vm, &asked, image, ports, terminal)
    }

    /// Looks up a machine whose container is well already, and says what becomes of one that gets well.
    fn look_up_warm(
        &self,
        vm: &OwnedVm,
        request: &RunRequest,
        policy: SnapshotPolicy,
        key: CacheKey,
    ) -> Result<(Warm, Option<(CacheKey, SnapshotDir)>), Error> {
        if let Goal::Snapshot(wanted) = &request.goal {
            return Ok((Warm::Wanted(wanted.clone(), self.claim_wanted(wanted)?), None));
        }
        // What a container has read of a volume may be another thing in the next run.
        let sees_host = vm.record().spec.container.volumes.iter().any(VolumeSpec::is_of_host);
        let is_its_own = request.spec.stdin != Stdin::Null || sees_host;
        if policy != SnapshotPolicy::Allowed || is_its_own {
            return Ok((Warm::Unused, None));
        }
        // One that nobody can see become well is made only by `prepare`.
        let making = if health::is_watched(&vm.record().spec.health) { Making::Allowed } else { Making::No };
        Ok(match self.look_up(key, making) {
            Cache::Hit(key, snapshot) => (Warm::Unused, Some((key, snapshot))),
            Cache::Miss(key, claim) => (Warm::Cached(key, claim), None),
            Cache::Off => (Warm::Unused, None),
        })
    }

    /// Lends a VM what a cached snapshot has. None: it is of no use, and gone.
    fn wake_from_cache(
        &self,
        vm: &mut OwnedVm,
        (key, snapshot): (CacheKey, SnapshotDir),
        choice: &Choice,
        delta: Delta,
    ) -> Result<Option<Start>, Error> {
        match self.prepare_wake(vm, &snapshot, choice, delta) {
            Ok((beginning, files, hold)) => {
                let cache = CacheUse::From(key, snapshot.id().clone());
                Ok(Some(Start { beginning, files, hold, cache }))
            }
            Err(error) => {
                tracing::warn!(%error, "a cached snapshot is of no use");
                self.forget(&key, snapshot.id());
                vm.dir().give_back()?;
                Ok(None)
            }
        }
    }

    /// Decides on monitor and accelerator.
    pub(crate) fn choose(&self, spec: &VmSpec) -> Result<Choice, Error> {
        let Settings { search_path, firecracker, .. } = self.settings();
        let firecracker = spec.machine.firecracker.as_ref().or(firecracker.as_ref());
        let host = Probe::of_host(search_path, firecracker.map(PathBuf::as_path));
        Ok(fcvm_vmm::choose(spec.machine.vmm, spec.machine.accel, &host)?)
    }

    pub(crate) fn boot_set(&self, spec: &VmSpec) -> Result<Set, Error> {
        let agent = &self.settings().agent;
        let system = match spec.container.engine {
            fcvm_spec::Engine::Crun => System::Plain,
            fcvm_spec::Engine::Podman => System::Podman,
        };
        Ok(match &spec.machine.kernel {
            KernelChoice::Default => self.artifacts().current(agent, system)?,
            KernelChoice::File(kernel) => self.artifacts().with_kernel(kernel, agent, system)?,
        })
    }

    /// How images are fetched with this engine's settings.
    pub fn pull_options(&self, policy: PullPolicy) -> PullOptions {
        PullOptions { policy, registries: self.settings().registries.clone(), ..PullOptions::default() }
    }

    /// Checks that there is something to boot, before anything is fetched for it.
    pub fn check_set_up(&self, spec: &VmSpec) -> Result<(), Error> {
        self.boot_set(spec).map(drop)
    }

    /// Fetches or makes the image of a VM if it is not here. Blocks the thread, for as long as a download takes.
    pub fn ensure_image(
        &self,
        spec: &VmSpec,
        options: &PullOptions,
        progress: &dyn fcvm_image::Progress,
    ) -> Result<Image, Error> {
        Ok(match spec.root {
            RootKind::Image => self.images().ensure(&spec.image, options, progress)?,
            RootKind::Directory => {
                let dir = Path::new(&spec.image);
                self.images().import_directory(dir, &fcvm_image::directory_key(dir)?, options)?
            }
        })
    }
}

/// Whether no other machine is to start from this one. Huge pages are only served, and nobody serves what was made by itself; what
/// is on a user's disk may be another thing in the next run.
fn is_its_own(machine: &MachineShape) -> bool {
    machine.pages == PageSize::Huge || !machine.disks.is_empty()
}

fn mappings(request: &RunRequest, image: &ImageConfiguration) -> Vec<PortMapping> {
    let exposed = match request.publish {
        Publish::Named => Vec::new(),
        Publish::Exposed => exposed(image),
    };
    request.spec.ports.iter().copied().chain(exposed).collect()
}

/// Computes the plan, and writes into the record what it says and what only the image knows.
fn note_plan(
    vm: &mut OwnedVm,
    asked: &VmSpec,
    image: &Image,
    ports: &Published,
    terminal: TerminalSize,
) -> Result<Plan, Error> {
    let health = health::resolve(&asked.health, image.health.as_ref());
    let spec = VmSpec { health, ..asked.clone() };
    let plan = plan::compute(&spec, &image.config, &HostFacts { terminal, ..host_facts() })?;
    vm.update(|record| {
        record.image_digest = Some(image.digest.clone());
        record.command = plan::command(&plan);
        record.ports = ports.mappings();
        let stop_signal = &mut record.spec.container.stop_signal;
        *stop_signal = stop_signal.or_else(|| image_stop_signal(&image.config));
        record.spec.health = spec.health;
        record.spec.container.volumes = spec.container.volumes;
    })?;
    Ok(plan)
}

pub(crate) fn host_facts() -> HostFacts {
    let mut entropy = [0; 32];
    // The first bytes of the kernel's pool; it is ready long before a user has a shell.
    let filled = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(entropy.len()));
    HostFacts { time_ns: now_ns(), entropy, terminal: TerminalSize::default() }
}

/// The signal by which an image wants to be stopped; one that is no signal is not used.
fn image_stop_signal(image: &ImageConfiguration) -> Option<Signal> {
    image.config().as_ref()?.stop_signal().as_ref()?.parse().ok()
}

/// The ports that an image exposes, each on a port that the host chooses.
pub(super) fn exposed(image: &ImageConfiguration) -> Vec<PortMapping> {
    let ports = image.config().as_ref().and_then(|config| config.exposed_ports().clone()).unwrap_or_default();
    let mapping = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let (host_ip, container_port) = (fcvm_spec::port::DEFAULT_HOST_IP, port.parse().ok()?);
        Some(PortMapping { host_ip, host_port: 0, container_port, protocol })
    };
    ports.iter().filter_map(mapping).collect()
}
