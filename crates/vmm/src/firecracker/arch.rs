//! What differs by architecture in what Firecracker's guests are told.

/// The parameters that this machine needs. It has no ACPI power button: a guest ends by resetting itself.
#[cfg(target_arch = "x86_64")]
pub(super) const PARAMETERS: &[&str] = &[
    "console=ttyS0",
    "reboot=k",
    "8250.nr_uarts=1",
    "i8042.noaux",
    "i8042.nomux",
    "i8042.dumbkbd",
    "swiotlb=noforce",
    "random.trust_cpu=on",
    "pci=off",
];

#[cfg(target_arch = "aarch64")]
pub(super) const PARAMETERS: &[&str] = &["console=ttyS0"];
