//! What differs by architecture: package names and the kernel's file.

/// The package whose dependency is the newest cloud kernel.
#[cfg(target_arch = "x86_64")]
pub(crate) const KERNEL_META: &str = "linux-image-cloud-amd64";
/// The package whose dependency is the newest cloud kernel.
#[cfg(target_arch = "aarch64")]
pub(crate) const KERNEL_META: &str = "linux-image-cloud-arm64";

/// The machine in the head of an ELF program: `EM_X86_64`.
#[cfg(target_arch = "x86_64")]
pub(crate) const ELF_MACHINE: u16 = 62;
/// The machine in the head of an ELF program: `EM_AARCH64`.
#[cfg(target_arch = "aarch64")]
pub(crate) const ELF_MACHINE: u16 = 183;
