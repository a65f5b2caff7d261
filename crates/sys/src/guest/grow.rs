//! A file system that grows with its disk while it is in use.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `EXT4_IOC_RESIZE_FS` of `linux/ext4.h`.
const RESIZE: libc::c_ulong = 0x4008_6610;

/// Gives an ext4 so many blocks.
pub fn grow(mount_point: &Path, blocks: u64) -> io::Result<()> {
    let dir = File::open(mount_point)?;
    // SAFETY: the descriptor is open, and the request reads the eight bytes to which the pointer leads.
    let done = unsafe { libc::ioctl(dir.as_raw_fd(), RESIZE as _, &raw const blocks) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
