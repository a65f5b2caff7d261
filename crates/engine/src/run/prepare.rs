//! The second phase: everything that can be had before there is a machine. What is busy or missing is known here.

use super::{Publish, RunObserver, RunRequest, now_ns};
use crate::plan::{self, HostFacts};
use crate::{Engine, Error};
use fcvm_artifacts::Set;
use fcvm_image::{Image, ImageLock, PullOptions, PullPolicy};
use fcvm_net::Published;
use fcvm_proto::plan::Plan;
use fcvm_spec::{KernelChoice, PortMapping, Protocol, RootKind, Signal, VmSpec};
use fcvm_store::OwnedVm;
use oci_spec::image::ImageConfiguration;
use std::path::{Path, PathBuf};

/// A VM that only lacks its machine.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) ports: Published,
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// In the order of [`plan::compute`]'s device names: system, image, scratch.
    pub(super) disks: [PathBuf; 3],
    /// Keeps `rmi` away from the disk.
    pub(super) image: ImageLock,
}

impl Engine {
    pub(super) async fn prepare(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        observer: &dyn RunObserver,
    ) -> Result<Prepared, Error> {
        let set = self.boot_set(&request.spec.machine.kernel)?;
        let image = self.ensure_image(&request.spec, request.pull, observer.image())?;
        let lock = self.images().hold(&image)?;
        let mut mappings = request.spec.ports.clone();
        if request.publish == Publish::Exposed {
            mappings.extend(exposed(&image.config));
        }
        let ports = Published::bind(&mappings).await?;
        let plan = plan::compute(&request.spec, &image.config, &host_facts())?;
        let scratch = vm.dir().scratch_disk();
        self.artifacts().instantiate_scratch(&scratch)?;
        vm.update(|record| {
            record.image_digest = Some(image.digest.clone());
            record.command = plan::command(&plan);
            record.ports = ports.mappings();
            let stop_signal = &mut record.spec.container.stop_signal;
            *stop_signal = stop_signal.or_else(|| image_stop_signal(&image.config));
        })?;
        let disks = [set.system, image.disk, scratch];
        Ok(Prepared { plan, ports, kernel: set.kernel, initramfs: set.initramfs, disks, image: lock })
    }

    fn boot_set(&self, kernel: &KernelChoice) -> Result<Set, Error> {
        let agent = &self.settings().agent;
        Ok(match kernel {
            KernelChoice::Default => self.artifacts().current(agent)?,
            KernelChoice::File(kernel) => self.artifacts().with_kernel(kernel, agent)?,
        })
    }

    /// How images are fetched with this engine's settings.
    pub fn pull_options(&self, policy: PullPolicy) -> PullOptions {
        PullOptions { policy, registries: self.settings().registries.clone(), ..PullOptions::default() }
    }

    /// Checks that there is something to boot, before anything is fetched for it.
    pub fn check_set_up(&self, spec: &VmSpec) -> Result<(), Error> {
        self.boot_set(&spec.machine.kernel).map(drop)
    }

    /// Fetches or makes the image of a VM if it is not here. Blocks the thread, for as long as a download takes.
    pub fn ensure_image(
        &self,
        spec: &VmSpec,
        policy: PullPolicy,
        progress: &dyn fcvm_image::Progress,
    ) -> Result<Image, Error> {
        let options = self.pull_options(policy);
        Ok(match spec.root {
            RootKind::Image => self.images().ensure(&spec.image, &options, progress)?,
            RootKind::Directory => {
                let dir = Path::new(&spec.image);
                self.images().import_directory(dir, &fcvm_image::directory_key(dir)?, &options)?
            }
        })
    }
}

fn host_facts() -> HostFacts {
    let mut entropy = [0; 32];
    // The first bytes of the kernel's pool; it is ready long before a user has a shell.
    let filled = rustix::rand::getrandom(&mut entropy, rustix::rand::GetRandomFlags::empty());
    debug_assert_eq!(filled, Ok(entropy.len()));
    HostFacts { time_ns: now_ns(), entropy }
}

/// The signal by which an image wants to be stopped; one that is no signal is not used.
fn image_stop_signal(image: &ImageConfiguration) -> Option<Signal> {
    image.config().as_ref()?.stop_signal().as_ref()?.parse().ok()
}

/// The ports that an image exposes, each on a port that the host chooses.
fn exposed(image: &ImageConfiguration) -> Vec<PortMapping> {
    let ports = image.config().as_ref().and_then(|config| config.exposed_ports().clone()).unwrap_or_default();
    let mapping = |text: &String| {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        let (host_ip, container_port) = (fcvm_spec::port::DEFAULT_HOST_IP, port.parse().ok()?);
        Some(PortMapping { host_ip, host_port: 0, container_port, protocol })
    };
    ports.iter().filter_map(mapping).collect()
}
