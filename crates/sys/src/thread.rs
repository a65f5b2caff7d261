//! What a thread has for itself.

use rustix::thread::UnshareFlags;
use std::io;

/// Gives the calling thread a working directory, a root and a file mode mask of its own: those of the process until it
/// changes them.
pub fn own_directory() -> io::Result<()> {
    // SAFETY: the flags hold no CLONE_FILES, so no descriptor is unshared; what this thread's paths are relative to is
    // a copy from now on, which nothing else relies upon.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?)
}
