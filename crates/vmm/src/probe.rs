//! What this host has to run machines with.

use crate::qemu::{self, Qemu};
use fcvm_sys::kvm::{self, Acceleration};
use std::path::PathBuf;

/// The outcome of looking at the host. Tests make their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// QEMU, if it is installed.
    pub qemu: Option<Qemu>,
    /// What the host's KVM is good for.
    pub acceleration: Acceleration,
}

impl Probe {
    /// Looks at this host, with these directories to look for programs in. At worst, with a broken KVM, it blocks
    /// for two seconds.
    pub fn of_host(search_path: &[PathBuf]) -> Self {
        Self { qemu: qemu::find(search_path), acceleration: kvm::probe() }
    }
}
