//! A guest of one instruction, run in a process that can be given up: a broken KVM may never come back from it.
//!
//! Layouts and numbers are those of `linux/kvm.h`.

use super::arch::{HALTING, Halting};
use crate::process::{Child, Ending};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Pid;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

const KVM_GET_API_VERSION: libc::Ioctl = 0xae00;
const KVM_CREATE_VM: libc::Ioctl = 0xae01;
const KVM_GET_VCPU_MMAP_SIZE: libc::Ioctl = 0xae04;
const KVM_CREATE_VCPU: libc::Ioctl = 0xae41;
const KVM_SET_USER_MEMORY_REGION: libc::Ioctl = 0x4020_ae46;
const KVM_RUN: libc::Ioctl = 0xae80;
const KVM_EXIT_HLT: u32 = 5;
/// The offset of `exit_reason` in `struct kvm_run`.
const EXIT_REASON: usize = 8;
const PAGE: usize = 4096;

/// `struct kvm_userspace_memory_region`.
#[repr(C)]
struct MemoryRegion {
    slot: u32,
    flags: u32,
    guest_address: u64,
    size: u64,
    host_address: u64,
}

/// The steps, by the exit status of the process that failed at them.
const STEPS: [&str; 6] = [
    "it halted",
    "no virtual machine could be made",
    "it got no memory",
    "it got no processor",
    "its processor would not run",
    "it ended in another way than by halting",
];

/// Returns the version of the interface.
pub(super) fn api_version(kvm: &File) -> io::Result<i32> {
    let version = ioctl(kvm.as_raw_fd(), KVM_GET_API_VERSION, 0);
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

/// Runs the guest. The error is a clause for people.
pub(super) fn halts(kvm: &File, patience: Duration) -> Result<(), String> {
    let Some(guest) = HALTING else { return Ok(()) };
    let mut child = fork(kvm.as_raw_fd(), &guest).map_err(|error| format!("it could not be forked: {error}"))?;
    let timeout = Timespec::try_from(patience).map_err(|error| error.to_string())?;
    let ended = rustix::event::poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&timeout));
    if !matches!(ended, Ok(1)) {
        return Err(format!("it did not halt within {} s", patience.as_secs()));
    }
    match child.wait() {
        Ok(Ending::Code(0)) => Ok(()),
        Ok(Ending::Code(code)) => Err(usize::try_from(code)
            .ok()
            .and_then(|code| STEPS.get(code))
            .map_or_else(|| format!("its process ended with {code}"), |step| (*step).to_owned())),
        Ok(ending) => Err(format!("its process ended by {ending}")),
        Err(error) => Err(format!("its process was lost: {error}")),
    }
}

fn fork(kvm: RawFd, guest: &Halting) -> io::Result<Child> {
    // SAFETY: other threads may hold locks, so the new process only makes system calls until it exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = run(kvm, guest);
        // SAFETY: ends the process at once, without the handlers that belong to its parent.
        unsafe { libc::_exit(code) }
    }
    Pid::from_raw(pid).map_or_else(|| Err(io::Error::last_os_error()), Child::adopt)
}

/// Runs the guest in this process, which allocates nothing, and returns the index of the step that failed.
fn run(kvm: RawFd, guest: &Halting) -> i32 {
    let machine = ioctl(kvm, KVM_CREATE_VM, 0);
    if machine < 0 {
        return 1;
    }
    let Some(memory) = map(PAGE, -1, libc::MAP_SHARED | libc::MAP_ANONYMOUS) else { return 2 };
    // SAFETY: the offset lies in the page that was just mapped and that nothing else uses.
    unsafe { memory.wrapping_add(guest.offset).write(guest.code) };
    let region = MemoryRegion {
        slot: 0,
        flags: 0,
        guest_address: guest.page,
        size: PAGE as u64,
        host_address: memory.expose_provenance() as u64,
    };
    if ioctl(machine, KVM_SET_USER_MEMORY_REGION, (&raw const region).expose_provenance() as libc::c_ulong) < 0 {
        return 2;
    }
    let processor = ioctl(machine, KVM_CREATE_VCPU, 0);
    let Ok(size @ PAGE..) = usize::try_from(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)) else { return 3 };
    let Some(state) = map(size, processor, libc::MAP_SHARED) else { return 3 };
    if ioctl(processor, KVM_RUN, 0) < 0 {
        return 4;
    }
    // SAFETY: the offset lies in the mapping, and is a multiple of four as the mapping's start is.
    let reason = unsafe { state.wrapping_add(EXIT_REASON).cast::<u32>().read_volatile() };
    if reason == KVM_EXIT_HLT { 0 } else { 5 }
}

fn map(size: usize, fd: RawFd, flags: i32) -> Option<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the address, so no mapping of ours is replaced.
    let address = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, fd, 0) };
    (address != libc::MAP_FAILED).then_some(address.cast())
}

fn ioctl(fd: RawFd, request: libc::Ioctl, argument: libc::c_ulong) -> i32 {
    // SAFETY: every caller gives a KVM descriptor, with a number or with the address of the structure that the request
    // reads, which outlives the call. On another descriptor the kernel answers with an error.
    unsafe { libc::ioctl(fd, request, argument) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tried_guest_ends_whatever_this_hosts_kvm_is() {
        let Ok(kvm) = File::options().read(true).write(true).open("/dev/kvm") else { return };
        if let Err(reason) = halts(&kvm, Duration::from_secs(2)) {
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn what_is_no_kvm_makes_no_guest() {
        let null = File::open("/dev/null").unwrap();
        assert!(api_version(&null).is_err());
        if HALTING.is_some() {
            assert_eq!(halts(&null, Duration::from_secs(10)), Err(STEPS[1].to_owned()));
        }
    }
}
