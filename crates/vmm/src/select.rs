//! Which monitor and which accelerator a VM gets, and the sentence that says why.
//!
//! Pure: looking at the host is [`Probe`]'s matter.

use crate::Probe;
use crate::firecracker::{self, Firecracker};
use crate::qemu::{self, Qemu};
use fcvm_spec::{Accel, VmmChoice};
use fcvm_sys::kvm::Acceleration;
use std::fmt;

/// A monitor that is installed on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Firecracker.
    Firecracker(Firecracker),
    /// QEMU's `microvm`.
    Qemu(Qemu),
}

/// What a monitor can do, so that a plan refuses early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// It runs where there is no KVM.
    pub software_emulation: bool,
    /// A running machine can be saved and cloned.
    pub snapshots: bool,
    /// A machine's memory can be made of huge pages.
    pub huge_pages: bool,
    /// A disk may be in QEMU's format, qcow2.
    pub qcow2: bool,
    /// The most disks that a machine may have.
    pub disks: usize,
    /// The most processors that a machine may have.
    pub cpus: u8,
}

impl Backend {
    /// Returns what this monitor can do.
    pub fn features(&self) -> Features {
        match self {
            Backend::Firecracker(_) => firecracker::FEATURES,
            Backend::Qemu(_) => qemu::FEATURES,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Backend::Firecracker(_) => f.write_str("firecracker"),
            Backend::Qemu(_) => f.write_str("qemu"),
        }
    }
}

/// What runs the guest's instructions, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// Software emulation.
    Tcg,
}

impl Choice {
    /// Describes the processor that the guest sees: a machine can go on only where this is the same.
    pub fn processor(&self) -> String {
        match self.accel {
            // The emulated processor's time stamp counter is the host's.
            Accelerator::Tcg => format!("{} on {}", qemu::EMULATED_CPU, host_processor(&["model name", "CPU part"])),
            Accelerator::Kvm => host_processor(&["vendor_id", "cpu family", "model", "flags", "CPU part", "Features"]),
        }
    }
}

/// The host's processor by these lines of `/proc/cpuinfo`.
fn host_processor(wanted: &[&str]) -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default().lines();
    let values = first.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        wanted.contains(&name.trim()).then(|| value.trim().to_owned())
    });
    values.collect::<Vec<_>>().join(" / ")
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.backend, self.accel)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        })
    }
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The monitor.
    pub backend: Backend,
    /// The accelerator.
    pub accel: Accelerator,
    /// Why, as one sentence.
    pub reason: String,
}

/// Why what was asked for cannot be had on this host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// Firecracker was asked for.
    #[error(
        "Firecracker was not found; put `firecracker` into the PATH or name it with --firecracker or FCVM_FIRECRACKER_BIN, \
         or use --vmm qemu"
    )]
    NoFirecracker,
    /// Firecracker was asked for, but what there is cannot be driven.
    #[error("{0}; another one is named with --firecracker or FCVM_FIRECRACKER_BIN, or use --vmm qemu")]
    UnsupportedFirecracker(firecracker::Unsupported),
    /// Firecracker was asked for, but runs nothing here.
    #[error("Firecracker needs KVM: {reason}; use --vmm qemu or auto")]
    FirecrackerWithoutKvm {
        /// One clause.
        reason: String,
    },
    /// QEMU is not installed.
    #[error("{} was not found; it is in the package {}", qemu::PROGRAM, qemu::PACKAGE)]
    NoQemu,
    /// KVM was asked for.
    #[error("KVM cannot run guests on this host: {reason}; use --accel tcg or auto")]
    NoKvm {
        /// One clause.
        reason: String,
    },
}

/// Decides, from what was asked and what the host has.
pub fn choose(vmm: VmmChoice, accel: Accel, host: &Probe) -> Result<Choice, ChoiceError> {
    let (accel, why) = choose_accelerator(accel, &host.acceleration)?;
    let qemu = || host.qemu.clone().map(Backend::Qemu).ok_or(ChoiceError::NoQemu);
    let (backend, how) = match (vmm, accel) {
        (VmmChoice::Firecracker, Accelerator::Tcg) => return Err(ChoiceError::FirecrackerWithoutKvm { reason: why }),
        (VmmChoice::Firecracker, Accelerator::Kvm) => {
            let firecracker = host.firecracker.clone().ok_or(ChoiceError::NoFirecracker)?;
            let version = firecracker.supported().map_err(ChoiceError::UnsupportedFirecracker)?;
            let how = format!("Firecracker {version} was asked for");
            (Backend::Firecracker(firecracker), how)
        }
        (VmmChoice::Qemu, _) => (qemu()?, "QEMU was asked for".to_owned()),
        (VmmChoice::Auto, Accelerator::Tcg) => (qemu()?, "QEMU is the monitor that needs no KVM".to_owned()),
        (VmmChoice::Auto, Accelerator::Kvm) => best_with_kvm(host, qemu)?,
    };
    Ok(Choice { backend, accel, reason: format!("{how}; {why}.") })
}

fn best_with_kvm(
    host: &Probe,
    qemu: impl FnOnce() -> Result<Backend, ChoiceError>,
) -> Result<(Backend, String), ChoiceError> {
    let Some(firecracker) = &host.firecracker else {
        return Ok((qemu()?, "QEMU is the monitor that there is".to_owned()));
    };
    match firecracker.supported() {
        Ok(version) => Ok((Backend::Firecracker(firecracker.clone()), format!("Firecracker {version} is there"))),
        Err(reason) => Ok((qemu()?, format!("QEMU is taken because {reason}"))),
    }
}

fn choose_accelerator(asked: Accel, host: &Acceleration) -> Result<(Accelerator, String), ChoiceError> {
    let missing = match host {
        Acceleration::Hardware => None,
        Acceleration::Paravirtual { reason } | Acceleration::Unavailable { reason } => Some(reason),
    };
    match (asked, missing) {
        (Accel::Tcg, _) => Ok((Accelerator::Tcg, "software emulation was asked for".to_owned())),
        (Accel::Kvm, Some(reason)) => Err(ChoiceError::NoKvm { reason: reason.clone() }),
        (Accel::Kvm, None) => Ok((Accelerator::Kvm, "KVM was asked for and works".to_owned())),
        (Accel::Auto, None) => Ok((Accelerator::Kvm, "KVM works on this host".to_owned())),
        (Accel::Auto, Some(reason)) => Ok((Accelerator::Tcg, format!("software emulation, because {reason}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Accel::{Auto, Kvm, Tcg};

    fn host(acceleration: Acceleration) -> Probe {
        let qemu = Qemu { program: "/usr/bin/qemu".into() };
        Probe { firecracker: None, qemu: Some(qemu), acceleration }
    }

    fn paravirtual() -> Probe {
        host(Acceleration::Paravirtual { reason: "it is paravirtual".to_owned() })
    }

    fn with_firecracker(host: Probe) -> Probe {
        with_version("1.16.1", host)
    }

    fn with_version(version: &str, host: Probe) -> Probe {
        let version = firecracker::Version::parse(version);
        Probe { firecracker: Some(Firecracker { program: "/usr/bin/firecracker".into(), version }), ..host }
    }

    #[test]
    fn kvm_is_taken_where_it_works_and_nowhere_else() {
        let hardware = host(Acceleration::Hardware);
        let nothing = host(Acceleration::Unavailable { reason: "there is no /dev/kvm".to_owned() });
        let chosen = |accel, host: &Probe| choose(VmmChoice::Auto, accel, host).map(|choice| choice.accel);
        assert_eq!(chosen(Auto, &hardware), Ok(Accelerator::Kvm));
        assert_eq!(chosen(Kvm, &hardware), Ok(Accelerator::Kvm));
        assert_eq!(chosen(Tcg, &hardware), Ok(Accelerator::Tcg));
        for host in [paravirtual(), nothing] {
            assert_eq!(chosen(Auto, &host), Ok(Accelerator::Tcg));
            assert!(matches!(chosen(Kvm, &host), Err(ChoiceError::NoKvm { .. })));
        }
    }

    #[test]
    fn firecracker_is_taken_where_it_is_and_kvm_works() {
        let hardware = || host(Acceleration::Hardware);
        let chosen = |vmm, host: &Probe| choose(vmm, Auto, host).map(|choice| choice.to_string());
        let table = [
            (VmmChoice::Auto, with_firecracker(hardware()), "firecracker kvm"),
            (VmmChoice::Auto, hardware(), "qemu kvm"),
            (VmmChoice::Auto, with_firecracker(paravirtual()), "qemu tcg"),
            (VmmChoice::Qemu, with_firecracker(hardware()), "qemu kvm"),
            (VmmChoice::Firecracker, with_firecracker(hardware()), "firecracker kvm"),
        ];
        for (vmm, host, expected) in table {
            assert_eq!(chosen(vmm, &host).as_deref(), Ok(expected), "{vmm:?}");
        }
        let only = Probe { qemu: None, ..with_firecracker(hardware()) };
        assert_eq!(chosen(VmmChoice::Auto, &only).as_deref(), Ok("firecracker kvm"));
    }

    #[test]
    fn a_choice_says_why_in_one_sentence() {
        let reason = |host: &Probe| choose(VmmChoice::Auto, Auto, host).unwrap().reason;
        let without = "QEMU is the monitor that needs no KVM; software emulation, because it is paravirtual.";
        assert_eq!(reason(&paravirtual()), without);
        let with = "Firecracker 1.16.1 is there; KVM works on this host.";
        assert_eq!(reason(&with_firecracker(host(Acceleration::Hardware))), with);
    }

    #[test]
    fn what_is_not_there_is_refused_with_a_way_out() {
        let refused = |vmm, accel, host: &Probe| choose(vmm, accel, host).unwrap_err().to_string();
        let missing = refused(VmmChoice::Firecracker, Auto, &host(Acceleration::Hardware));
        assert!(missing.contains("FCVM_FIRECRACKER_BIN"), "{missing}");
        let host = with_firecracker(paravirtual());
        for accel in [Auto, Tcg] {
            let without_kvm = refused(VmmChoice::Firecracker, accel, &host);
            assert!(without_kvm.contains("needs KVM") && without_kvm.contains("--vmm qemu"), "{without_kvm}");
        }
        for (version, words) in [("1.14.4", "1.15 is the oldest"), ("nonsense", "does not say that it is Firecracker")]
        {
            let host = with_version(version, super::tests::host(Acceleration::Hardware));
            let old = refused(VmmChoice::Firecracker, Auto, &host);
            assert!(old.contains(words) && old.contains("--firecracker") && old.contains("--vmm qemu"), "{old}");
            let taken = choose(VmmChoice::Auto, Auto, &host).unwrap();
            assert!(taken.to_string() == "qemu kvm" && taken.reason.contains(words), "{taken:?}");
        }
        let bare = Probe { qemu: None, ..paravirtual() };
        let refused = refused(VmmChoice::Auto, Auto, &bare);
        assert!(refused.contains("package"), "{refused}");
    }
}
