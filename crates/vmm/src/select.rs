//! Which monitor and which accelerator a VM gets, and the sentence that says why.
//!
//! Pure: looking at the host is [`Probe`]'s matter.

use crate::Probe;
use crate::qemu::{self, Qemu};
use fcvm_spec::{Accel, VmmChoice};
use fcvm_sys::kvm::Acceleration;
use std::fmt;

/// A monitor that is installed on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
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
    /// The most disks that a machine may have.
    pub disks: usize,
}

impl Backend {
    /// Returns what this monitor can do.
    pub fn features(&self) -> Features {
        match self {
            Backend::Qemu(_) => qemu::FEATURES,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
    #[error("this fcvm has no Firecracker backend; use --vmm qemu or auto")]
    NoFirecracker,
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
    let qemu = match vmm {
        VmmChoice::Firecracker => return Err(ChoiceError::NoFirecracker),
        VmmChoice::Auto | VmmChoice::Qemu => host.qemu.clone().ok_or(ChoiceError::NoQemu)?,
    };
    let how = match vmm {
        VmmChoice::Qemu => "QEMU was asked for",
        _ => "QEMU is the monitor that there is",
    };
    Ok(Choice { backend: Backend::Qemu(qemu), accel, reason: format!("{how}; {why}.") })
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
        Probe { qemu: Some(qemu), acceleration }
    }

    fn paravirtual() -> Probe {
        host(Acceleration::Paravirtual { reason: "it is paravirtual".to_owned() })
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
    fn a_choice_says_why_in_one_sentence() {
        let choice = choose(VmmChoice::Auto, Auto, &paravirtual()).unwrap();
        let reason = "QEMU is the monitor that there is; software emulation, because it is paravirtual.";
        assert_eq!(choice.reason, reason);
        assert_eq!(format!("{} {}", choice.backend, choice.accel), "qemu tcg");
    }

    #[test]
    fn what_is_not_there_is_refused_with_a_way_out() {
        let refused = choose(VmmChoice::Firecracker, Auto, &paravirtual()).unwrap_err();
        assert_eq!(refused, ChoiceError::NoFirecracker);
        let bare = Probe { qemu: None, ..paravirtual() };
        let refused = choose(VmmChoice::Auto, Auto, &bare).unwrap_err();
        assert!(refused.to_string().contains("package"), "{refused}");
    }
}
