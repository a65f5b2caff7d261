//! The kernel's random pool: bytes of the host are mixed in and counted.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
/// The most bytes that one call takes.
const MOST: usize = 64;

/// `struct rand_pool_info` with room for its bytes.
#[repr(C)]
struct Pool {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; MOST],
}

/// Mixes up to 64 bytes into the pool, credits them, and makes the generator take them up at once.
pub fn add_entropy(bytes: &[u8]) -> io::Result<()> {
    let random = File::options().write(true).open("/dev/random")?;
    let bytes = &bytes[..bytes.len().min(MOST)];
    let mut pool =
        Pool { entropy_count: (bytes.len() * 8) as libc::c_int, buf_size: bytes.len() as libc::c_int, buf: [0; MOST] };
    pool.buf[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the descriptor is open, and `pool` is a `struct rand_pool_info` whose `buf_size` bytes exist; it lives
    // over the call, which only reads it.
    let added = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, &raw const pool) };
    if added < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and this request takes no argument.
    let reseeded = unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _) };
    if reseeded < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
