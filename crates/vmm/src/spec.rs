//! What a monitor is told: a machine, in terms that every monitor has.
//!
//! Not what the user asked for: that is `fcvm_spec::VmSpec`, from which the engine computes this.

use crate::Choice;
use fcvm_spec::{DiskFormat, MiB, PageSize};
use std::path::PathBuf;

/// The name of the port in the guest that the link uses: `/sys/class/virtio-ports/*/name`.
pub const LINK_PORT: &str = "fcvm.link";

/// The port of its host that a guest dials for the link, where the monitor has a vsock.
pub const LINK_VSOCK_PORT: u32 = 5000;

/// A machine to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// Which monitor runs it, and how.
    pub choice: Choice,
    /// Virtual processors, at least one.
    pub cpus: u8,
    /// Guest memory.
    pub memory: MiB,
    /// What the host makes it of.
    pub pages: PageSize,
    /// What it starts from.
    pub origin: Origin,
    /// Disks. The guest sees them in this order as `vda`, `vdb`, …, and finds that name in
    /// `/sys/block/vdX/serial` too.
    pub disks: Vec<Disk>,
    /// Directories of cgroups of the host, in which its monitor is.
    pub cgroups: Vec<PathBuf>,
    /// A directory that exists: the start of the console is kept there as [`crate::CONSOLE_FILE`].
    pub run_dir: PathBuf,
}

/// What a machine starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its kernel's first instruction.
    Boot {
        /// The kernel: on x86_64 an uncompressed ELF with a PVH note, on aarch64 an `Image`.
        kernel: PathBuf,
        /// The initramfs.
        initramfs: PathBuf,
    },
    /// The moment in which a machine of the same shape was saved.
    Saved(Saved),
}

/// A saved machine. Its files are shared by all machines that start from it; none of them writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The guest's memory: see [`crate::memory`].
    pub memory: PathBuf,
    /// Pages that take the place of those in `memory`, if there are any.
    pub pages: Option<PathBuf>,
    /// The state of processors and devices, in the monitor's own format.
    pub devices: PathBuf,
    /// The socket of a server that brings the pages; without one the memory file is mapped.
    pub server: Option<PathBuf>,
    /// The version of the monitor that saved it: another's format may differ.
    pub version: String,
}

/// A disk of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file. Whoever boots the machine must be able to open it; the monitor's own user need not.
    pub path: PathBuf,
    /// How the disk lies in it.
    pub format: DiskFormat,
    /// Whether the guest may write it.
    pub access: Access,
}

/// Whether the guest may write a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Shared with other machines, never written.
    ReadOnly,
    /// The user's own: what the guest has flushed is on the host's disk.
    Durable,
    /// This machine's own scratch. It is of no worth once the host has crashed, so nothing waits for the host's disk.
    ReadWrite,
}
