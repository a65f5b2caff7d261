//! What differs by architecture: how a processor shows that it virtualizes, and the smallest guest.

/// The smallest guest: a page that holds the first instruction after reset, which halts.
pub(super) struct Halting {
    /// Where the page lies in the guest.
    pub(super) page: u64,
    /// Where the instruction lies in the page.
    pub(super) offset: usize,
    /// The instruction.
    pub(super) code: u8,
}

/// After reset the processor fetches from 16 bytes below 4 GiB (Intel SDM volume 3, 10.1.4); 0xf4 is `hlt`.
#[cfg(target_arch = "x86_64")]
pub(super) const HALTING: Option<Halting> = Some(Halting { page: 0xffff_f000, offset: 0xff0, code: 0xf4 });

/// Elsewhere a guest needs more than one instruction to end, so KVM is taken at its word.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const HALTING: Option<Halting> = None;

/// Tells from `/proc/cpuinfo` whether the processor virtualizes.
#[cfg(target_arch = "x86_64")]
pub(super) fn virtualizes(processor: &str) -> bool {
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

/// The others show nothing of it there; where KVM starts it is in hardware.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn virtualizes(_processor: &str) -> bool {
    true
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_flags_of_virtualization_count() {
        assert!(virtualizes("processor\t: 0\nflags\t\t: fpu vmx de\n"));
        assert!(virtualizes("flags\t\t: fpu svm\n"));
        assert!(!virtualizes("model name\t: vmx\nflags\t\t: fpu hypervisor svmx\n"));
        assert!(!virtualizes(""));
    }
}
