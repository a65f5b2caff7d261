//! Files of a FUSE file system by their numbers, wherever they are by now.

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::io;

/// The type of FUSE's file handles: a number and its generation (`FILEID_INO64_GEN`).
const INO64_GEN: libc::c_int = 0x81;

/// `struct file_handle` with one of these: the upper half of the number, the lower, the generation.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    content: [u32; 3],
}

/// Opens a file that the kernel knows by this number, to be a place for other calls (`O_PATH`). `mount` is any file that is
/// open in the file system, and not open as such a place. `ESTALE`: the kernel does not know it.
pub fn open_node(mount: BorrowedFd<'_>, node: u64) -> io::Result<OwnedFd> {
    let content = [(node >> 32) as u32, node as u32, 0];
    let handle = Handle { bytes: size_of_val(&content) as libc::c_uint, kind: INO64_GEN, content };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `mount` is open; `handle` is laid out as the kernel's structure, says the size of its content, and lives
    // through the call, which only reads it.
    let opened = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw const handle, flags) };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this is a descriptor that was just made and that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(opened as RawFd) })
}
