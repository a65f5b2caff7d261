//! A child that is its parent's sibling: in the namespaces that the parent joined, but the grandparent's to wait for.

use std::io;

/// Which side of the clone this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloned {
    /// The caller; the child has this number.
    Parent(i32),
    /// The child.
    Child,
}

/// Clones the calling process with `CLONE_PARENT`.
///
/// Only for a process with a single thread: refused otherwise, since the child would have one thread and the locks of all.
pub fn clone_sibling() -> io::Result<Cloned> {
    if std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count()) != 1 {
        return Err(io::Error::other("the process has several threads"));
    }
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: no stack is given, so the child goes on with a copy of this one, as after fork; the process has a single
    // thread (checked above), so no lock is held by a thread that the child lacks; the other arguments are not used
    // with these flags.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0_usize, 0_usize, 0_usize, 0_usize) };
    match pid {
        0 => Ok(Cloned::Child),
        pid if pid > 0 => Ok(Cloned::Parent(pid as i32)),
        _ => Err(io::Error::last_os_error()),
    }
}
