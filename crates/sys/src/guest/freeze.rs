//! A file system that stands still: all of it is on its disk, and whoever writes to it waits.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `FIFREEZE` and `FITHAW` of `linux/fs.h`.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// Writes back all that a file system holds and lets nobody write to it.
pub fn freeze(mount_point: &Path) -> io::Result<()> {
    call(mount_point, FIFREEZE)
}

/// Lets a frozen file system go on.
pub fn thaw(mount_point: &Path) -> io::Result<()> {
    call(mount_point, FITHAW)
}

fn call(mount_point: &Path, request: libc::c_ulong) -> io::Result<()> {
    let dir = File::open(mount_point)?;
    // SAFETY: the descriptor is open and these requests do not use their argument.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), request as _, 0) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
