//! What this host has to run machines with.

use crate::firecracker::{self, Firecracker};
use crate::qemu::{self, Qemu};
use fcvm_sys::kvm::{self, Acceleration};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The outcome of looking at the host. Tests make their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Firecracker, if it is installed.
    pub firecracker: Option<Firecracker>,
    /// QEMU, if it is installed.
    pub qemu: Option<Qemu>,
    /// What the host's KVM is good for.
    pub acceleration: Acceleration,
}

impl Probe {
    /// Looks at this host, with these directories to look for programs in, or the Firecracker that is named. At worst,
    /// with a broken KVM, it blocks for ten seconds.
    pub fn of_host(search_path: &[PathBuf], firecracker: Option<&Path>) -> Self {
        Self {
            firecracker: firecracker::find(firecracker, search_path),
            qemu: qemu::find(search_path),
            acceleration: kvm::probe(),
        }
    }
}

/// Returns a program without symbolic links, if it is one.
pub(crate) fn executable(path: &Path) -> Option<PathBuf> {
    let program = path.canonicalize().ok()?;
    let is_executable =
        program.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    is_executable.then_some(program)
}
