//! What differs by architecture on QEMU's command line.

use crate::Accelerator;

#[cfg(target_arch = "x86_64")]
mod this {
    use super::Accelerator;

    /// The program.
    pub const PROGRAM: &str = "qemu-system-x86_64";
    pub(in crate::qemu) const PACKAGE: &str = "qemu-system-x86";
    /// With ACPI the guest powers itself off; the legacy timers are what Linux calibrates with under emulation.
    pub(in crate::qemu) const MACHINE: &str = "microvm,acpi=on,rtc=on,pit=on,pic=on,pcie=off,isa-serial=on";
    /// The cheapest of the models that Debian's kernel boots on. Without a source of random numbers in the processor the
    /// guest's first read of random bytes waits a second for jitter. Without the promise that its timer never stops
    /// (ARAT) Linux ticks 250 times a second in an idle guest, and times nothing finer than that.
    pub(crate) const EMULATED_CPU: &str = "qemu64,+rdrand,+arat";
    /// The parameters that this machine needs, and those that save time while it boots.
    pub(in crate::qemu) const PARAMETERS: &[&str] = &[
        "console=ttyS0",
        "reboot=t",
        "8250.nr_uarts=1",
        "i8042.nokbd",
        "i8042.noaux",
        "random.trust_cpu=on",
        "no_timer_check",
        // One processor's kernel would take the lock prefixes out of its code: 0.2 s under emulation.
        "noreplace-smp",
    ];

    /// The guest reads the host's counter under emulation, but cannot calibrate it reliably.
    pub(in crate::qemu) fn clock_parameters(accel: Accelerator, tsc_khz: Option<u32>) -> Vec<String> {
        match (accel, tsc_khz) {
            (Accelerator::Tcg, Some(khz)) => vec![format!("tsc_early_khz={khz}"), "tsc=reliable".to_owned()],
            (Accelerator::Tcg, None) | (Accelerator::Kvm, _) => Vec::new(),
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod this {
    use super::Accelerator;

    /// The program.
    pub const PROGRAM: &str = "qemu-system-aarch64";
    pub(in crate::qemu) const PACKAGE: &str = "qemu-system-arm";
    /// There is no `microvm` here; `virt` is as small, with virtio-mmio as well.
    pub(in crate::qemu) const MACHINE: &str = "virt,gic-version=max,acpi=off";
    pub(crate) const EMULATED_CPU: &str = "max,pauth-impdef=on";
    pub(in crate::qemu) const PARAMETERS: &[&str] = &["console=ttyAMA0"];

    /// The generic timer says its own frequency.
    pub(in crate::qemu) fn clock_parameters(_accel: Accelerator, _tsc_khz: Option<u32>) -> Vec<String> {
        Vec::new()
    }
}

pub(crate) use this::EMULATED_CPU;
pub use this::PROGRAM;
pub(super) use this::{MACHINE, PACKAGE, PARAMETERS, clock_parameters};

/// Returns the processor model.
pub(super) fn cpu(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => EMULATED_CPU,
    }
}
