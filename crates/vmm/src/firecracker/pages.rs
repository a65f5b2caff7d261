//! What a machine's memory is made of and who fills it: whether that can be had here.
//!
//! Firecracker reserves no huge pages, so one that finds none left later crashes.

use crate::{MachineSpec, Origin, Saved};
use fcvm_spec::PageSize;
use fcvm_sys::process::runs_as_root;
use rustix::fs::Access;
use std::path::Path;

/// Where the kernel says how many huge pages are free, and how many of those are promised already.
const RESERVE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Makes what a server fills memory by. Kernels before 6.1 have none.
const FILLING: &str = "/dev/userfaultfd";

/// Whether anyone may do so without it.
const UNPRIVILEGED: &str = "/proc/sys/vm/unprivileged_userfaultfd";

/// Says why a machine cannot have the pages that it asks for.
pub(super) fn refusal(spec: &MachineSpec) -> Option<String> {
    let is_served = matches!(spec.origin, Origin::Saved(Saved { server: Some(_), .. }));
    if is_served && !can_be_filled() {
        let way = "let this user open it, or start the VM without --pid";
        return Some(format!("its memory can be filled by a page server only where {FILLING} can be opened; {way}"));
    }
    if spec.pages == PageSize::Base {
        return None;
    }
    if let Origin::Saved(Saved { server: None, .. }) = spec.origin {
        let way = "start `fcvm snapshot serve` for the snapshot, and the VM with its --pid";
        return Some(format!("its memory is of huge pages, which only a page server brings; {way}"));
    }
    too_few(spec.memory.0.div_ceil(PageSize::HUGE.0).into(), free())
}

/// Root makes a node of the program's own.
fn can_be_filled() -> bool {
    let may_open = || runs_as_root() || rustix::fs::access(FILLING, Access::READ_OK | Access::WRITE_OK).is_ok();
    let by_anyone = || std::fs::read_to_string(UNPRIVILEGED).is_ok_and(|text| text.trim() == "1");
    has_filling() && may_open() || by_anyone()
}

/// Whether the device is there.
pub(super) fn has_filling() -> bool {
    Path::new(FILLING).exists()
}

fn too_few(needed: u64, free: u64) -> Option<String> {
    let way = "reserve more with `sysctl vm.nr_hugepages=`, or leave out --hugepages";
    (free < needed).then(|| format!("it needs {needed} huge pages and this host has {free} free; {way}"))
}

/// A kernel without huge pages has none.
fn free() -> u64 {
    let number = |name: &str| {
        let text = std::fs::read_to_string(format!("{RESERVE}/{name}")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    number("free_hugepages").saturating_sub(number("resv_hugepages"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_huge_pages_are_said_with_a_way_out() {
        assert_eq!(too_few(64, 64), None);
        let refused = too_few(64, 63).unwrap();
        assert!(refused.contains("64 huge pages") && refused.contains("63 free"), "{refused}");
        assert!(refused.contains("vm.nr_hugepages") && refused.contains("--hugepages"), "{refused}");
    }
}
