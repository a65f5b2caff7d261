//! A child that is its parent's sibling: in the namespaces that the parent joined, but the grandparent's to wait for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Of `linux/sched.h`; not every C library has it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of the clone this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloned {
    /// The caller; the child has this number.
    Parent(i32),
    /// The child.
    Child,
}

/// Clones the calling process with `CLONE_PARENT`; the child begins in a cgroup of version 2 if one is given.
///
/// The caller goes on when the child has executed a program or ended (`CLONE_VFORK`): what both write to one pipe has an
/// order.
///
/// Only for a process with a single thread: refused otherwise, since the child would have one thread and the locks of all.
pub fn clone_sibling(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    if std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count()) != 1 {
        return Err(io::Error::other("the process has several threads"));
    }
    // SAFETY: `struct clone_args` is plain data for which all zeros is a value: no stack, no descriptors, no signal of its
    // own (with `CLONE_PARENT` the child has the parent's).
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (libc::CLONE_PARENT | libc::CLONE_VFORK) as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no stack is given, so the child goes on with a copy of this one, as after fork; the process has a single
    // thread (checked above), so no lock is held by a thread that the child lacks; `args` is a whole `struct clone_args`
    // that lives over the call, and its cgroup is an open descriptor.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => Ok(Cloned::Parent(pid as i32)),
        _ => Err(io::Error::last_os_error()),
    }
}
