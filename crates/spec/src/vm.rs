//! The one description of a VM.

use crate::{
    CgroupSpec, ContainerSpec, DiskSpec, Engine, HealthSpec, MiB, NetworkMode, PortMapping, RestartPolicy, RootfsSize,
    VmId, VmName,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What was asked for a VM: complete, checked, and the only such description. Records embed it.
///
/// It holds the environment of the container, which may be secret: files that hold it have mode 0600.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmSpec {
    /// Its id, chosen when it was asked for.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// The image as it was asked for; with [`RootKind::Directory`] a directory's absolute path.
    pub image: String,
    /// What the image is.
    #[serde(default)]
    pub root: RootKind,
    /// The container in it.
    pub container: ContainerSpec,
    /// The machine around it.
    pub machine: MachineShape,
    /// How large the disk of its own writes is made; [`RootfsSize::DEFAULT`] if it does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs_size: Option<RootfsSize>,
    /// Where the host counts and limits its processes; none: where its owner is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupSpec>,
    /// How it reaches the world.
    pub network: NetworkMode,
    /// Ports of the host that lead to it.
    pub ports: Vec<PortMapping>,
    /// Whether it goes away by itself when it ends.
    pub removal: Removal,
    /// Whether the container's stdin is carried.
    pub stdin: Stdin,
    /// Whether a snapshot may be made or used for it.
    pub snapshot: SnapshotPolicy,
    /// What the guest may know of itself, beyond which VM it is.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// How it is told whether the container is well.
    #[serde(default)]
    pub health: HealthSpec,
    /// Whether the container is started again when it has ended.
    #[serde(default)]
    pub restart: RestartPolicy,
}

/// What a container's root is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    /// An image, by its reference.
    #[default]
    Image,
    /// A directory of the host, copied into a disk: `--rootfs`.
    Directory,
}

/// The machine: what the monitor is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineShape {
    /// Virtual processors.
    pub cpus: u8,
    /// Guest memory.
    pub memory: MiB,
    /// What the host makes that memory of.
    #[serde(default)]
    pub pages: PageSize,
    /// Which kernel.
    pub kernel: KernelChoice,
    /// Which monitor.
    pub vmm: VmmChoice,
    /// The Firecracker that was named; otherwise one is looked for.
    #[serde(default)]
    pub firecracker: Option<PathBuf>,
    /// What runs the guest's instructions.
    pub accel: Accel,
    /// Disks of the user's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<DiskSpec>,
}

impl MachineShape {
    /// The least memory that the guest's kernel, the agent and a small container fit in.
    pub const LEAST_MEMORY: MiB = MiB(128);
    /// Memory of a VM that asks for none.
    pub const DEFAULT_MEMORY: MiB = MiB(512);
    /// What a machine has beyond what its container may use: its kernel, the agent, page tables.
    const OVERHEAD: MiB = MiB(96);

    /// What Podman takes of a machine, with the pages of its programs: with less it reads them again and again.
    const PODMANS: MiB = MiB(192);

    /// The memory of a machine whose container may use so much.
    pub fn memory_for(container: MiB, engine: Engine) -> MiB {
        let beside = match engine {
            Engine::Crun => Self::OVERHEAD.0,
            Engine::Podman => Self::OVERHEAD.0 + Self::PODMANS.0,
        };
        MiB(container.0.saturating_add(beside)).max(Self::LEAST_MEMORY)
    }

    /// The most processors that a monitor is asked for.
    pub const MOST_CPUS: u8 = 64;
}

impl Default for MachineShape {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory: Self::DEFAULT_MEMORY,
            pages: PageSize::default(),
            kernel: KernelChoice::default(),
            vmm: VmmChoice::default(),
            firecracker: None,
            accel: Accel::default(),
            disks: Vec::new(),
        }
    }
}

/// What a host makes a guest's memory of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageSize {
    /// The usual pages.
    #[default]
    Base,
    /// Pages of 2 MiB, of the host's reserve.
    Huge,
}

impl PageSize {
    /// A huge page.
    pub const HUGE: MiB = MiB(2);
}

/// Which kernel a guest runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelChoice {
    /// The one of `fcvm setup`.
    #[default]
    Default,
    /// A file: an ELF or a bzImage with what the agent needs built in.
    File(PathBuf),
}

/// Which monitor runs a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmmChoice {
    /// The best that works on this host.
    #[default]
    Auto,
    /// QEMU's `microvm`.
    Qemu,
    /// Firecracker.
    Firecracker,
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accel {
    /// KVM where it runs stock kernels, software emulation elsewhere.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Software emulation.
    Tcg,
}

/// Whether a VM's record and disk stay when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// They stay until `rm`.
    #[default]
    Keep,
    /// They go at once: `--rm`.
    Automatic,
}

/// Whether the container's stdin is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdin {
    /// It reads from `/dev/null`.
    #[default]
    Null,
    /// `-i`.
    Carried,
}

/// Whether a snapshot may be made or used for a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotPolicy {
    /// Where it helps.
    #[default]
    Allowed,
    /// Never: `--no-snapshot`.
    Never,
}
