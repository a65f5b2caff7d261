//! Whether this host runs guests on its processor: looked at, then tried.
//!
//! `/dev/kvm` alone proves nothing: inside cloud VMs it may be a paravirtual KVM that only runs kernels made for it, in
//! which a stock kernel hangs without a word.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

mod arch;
mod guest;

/// The only version that there has ever been since Linux 2.6.22.
const API_VERSION: i32 = 12;

/// A guest of one instruction is done in microseconds. A busy host that is itself emulated takes seconds to make its machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What runs a guest's instructions on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// The processor, and it was tried.
    Hardware,
    /// A KVM that does not use the processor's virtualization: stock kernels hang in it.
    Paravirtual {
        /// One clause for people.
        reason: String,
    },
    /// There is no usable KVM.
    Unavailable {
        /// One clause for people.
        reason: String,
    },
}

/// Finds out what this host's KVM is good for. Blocks for some milliseconds, at worst for ten seconds.
pub fn probe() -> Acceleration {
    let unavailable = |reason: String| Acceleration::Unavailable { reason };
    let kvm = match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(kvm) => kvm,
        Err(error) => return unavailable(cannot_open(&error)),
    };
    match guest::api_version(&kvm) {
        Ok(API_VERSION) => {}
        Ok(other) => return unavailable(format!("/dev/kvm has version {other} of its interface")),
        Err(error) => return unavailable(format!("/dev/kvm does not answer: {error}")),
    }
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !arch::virtualizes(&processor) {
        let reason = "/dev/kvm is there, but the processor shows no virtualization (vmx or svm)".to_owned();
        return Acceleration::Paravirtual { reason };
    }
    if crate::process::runs_as_root() && kvm.metadata().is_ok_and(|node| !opens_for_others(&node)) {
        return unavailable("only root may open /dev/kvm, and no monitor runs as root".to_owned());
    }
    match guest::halts(&kvm, PATIENCE) {
        Ok(()) => Acceleration::Hardware,
        Err(reason) => unavailable(format!("a guest of one instruction was tried: {reason}")),
    }
}

/// Tells whether someone else than root may open a node: everyone, or a group that is not root's.
fn opens_for_others(node: &std::fs::Metadata) -> bool {
    let (for_all, for_group) = (node.mode() & 0o006 == 0o006, node.mode() & 0o060 == 0o060);
    for_all || (for_group && node.gid() != 0)
}

fn cannot_open(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no /dev/kvm".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not open /dev/kvm (group kvm)".to_owned(),
        _ => format!("/dev/kvm cannot be opened: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_ends_and_gives_its_reason() {
        match probe() {
            Acceleration::Hardware => {}
            Acceleration::Paravirtual { reason } | Acceleration::Unavailable { reason } => assert!(!reason.is_empty()),
        }
    }

    #[test]
    fn a_missing_and_a_forbidden_device_are_told_apart() {
        assert!(cannot_open(&io::ErrorKind::NotFound.into()).contains("no /dev/kvm"));
        assert!(cannot_open(&io::ErrorKind::PermissionDenied.into()).contains("group kvm"));
    }
}
