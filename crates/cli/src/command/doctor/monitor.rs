//! Which monitors there are, which of them a VM gets here, and why.

use super::Finding;
use super::checks::as_root;
use fcvm_spec::{Accel, VmmChoice};
use fcvm_sys::kvm::Acceleration;
use fcvm_vmm::{ChoiceError, Probe, choose, firecracker, qemu};

/// No package registry has it.
pub(crate) const HOW_TO_OBTAIN_FIRECRACKER: &str = "put `firecracker` of a release of github.com/firecracker-microvm/firecracker into the PATH, or name it with \
     --firecracker or FCVM_FIRECRACKER_BIN";

/// The monitors that there are, and the one that is taken.
pub(super) fn monitors(host: &Probe) -> [Finding; 3] {
    const WHAT: &str = "monitor";
    let taken = match choose(VmmChoice::Auto, Accel::Auto, host) {
        Ok(choice) => Finding::ok(WHAT, format!("{choice}: {}", choice.reason)),
        Err(error @ ChoiceError::NoQemu) => {
            Finding::missing(WHAT, error.to_string(), as_root(&format!("apt-get install {}", qemu::PACKAGE)))
        }
        Err(error) => Finding::note(WHAT, error.to_string(), None),
    };
    [firecracker(host), qemu(host), taken]
}

fn firecracker(host: &Probe) -> Finding {
    const WHAT: &str = firecracker::PROGRAM;
    let obtain = || Some(HOW_TO_OBTAIN_FIRECRACKER.to_owned());
    match (&host.firecracker, &host.acceleration) {
        (Some(there), _) => match there.supported() {
            Ok(version) => Finding::ok(WHAT, format!("{} (version {version})", there.program.display())),
            Err(reason) => Finding::note(WHAT, reason.to_string(), obtain()),
        },
        (None, Acceleration::Hardware) => Finding::note(WHAT, "not found; VMs run under QEMU", obtain()),
        (None, _) => Finding::ok(WHAT, "not found, and of no use without KVM"),
    }
}

fn qemu(host: &Probe) -> Finding {
    match &host.qemu {
        Some(qemu) => Finding::ok(qemu::PROGRAM, qemu.program.display().to_string()),
        None => {
            let install = as_root(&format!("apt-get install {}", qemu::PACKAGE));
            Finding::note(qemu::PROGRAM, "not found; it runs VMs where Firecracker does not", Some(install))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use fcvm_vmm::firecracker::{Firecracker, Version};
    use fcvm_vmm::qemu::Qemu;

    fn host(firecracker: Option<&str>, acceleration: Acceleration) -> Probe {
        let named = |text: &str| Firecracker { program: "/opt/firecracker".into(), version: Version::parse(text) };
        Probe { firecracker: firecracker.map(named), qemu: None, acceleration }
    }

    fn emulated() -> Acceleration {
        Acceleration::Unavailable { reason: "it is a test".to_owned() }
    }

    #[test]
    fn one_monitor_is_enough_and_without_any_a_package_is_named() {
        let [firecracker, qemu, taken] = monitors(&host(Some("1.16.1"), Acceleration::Hardware));
        assert_eq!((firecracker.status, qemu.status, taken.status), (Status::Ok, Status::Note, Status::Ok));
        let [.., taken] = monitors(&host(Some("1.16.1"), emulated()));
        assert_eq!(taken.status, Status::Missing);
        assert!(taken.mend.unwrap().contains("apt-get install qemu-system"));
        let with_qemu = Probe { qemu: Some(Qemu { program: "/usr/bin/qemu".into() }), ..host(None, emulated()) };
        assert!(monitors(&with_qemu).iter().all(|finding| finding.status == Status::Ok));
    }

    #[test]
    fn where_firecracker_would_run_it_is_said_how_to_obtain_it() {
        for (found, words) in [(None, "not found"), (Some("1.14.0"), "too old"), (Some("?"), "does not say")] {
            let [firecracker, ..] = monitors(&host(found, Acceleration::Hardware));
            assert!(firecracker.detail.contains(words), "{firecracker:?}");
            assert!(firecracker.mend.unwrap().contains("--firecracker"));
        }
    }
}
