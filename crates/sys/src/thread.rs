//! What a thread has for itself.

use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities};
use std::io;

/// Gives the calling thread a working directory, a root and a file mode mask of its own: those of the process until it
/// changes them.
pub fn own_directory() -> io::Result<()> {
    // SAFETY: the flags hold no CLONE_FILES, so no descriptor is unshared; what this thread's paths are relative to is
    // a copy from now on, which nothing else relies upon.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?)
}

/// Acts without the capability that keeps the set-user-ID and set-group-ID bits of files that others write.
pub fn without_keeping_identity_bits<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let mut sets = capabilities(None)?;
    let had = sets.effective;
    sets.effective.remove(CapabilitySet::FSETID);
    set_capabilities(None, sets)?;
    let result = act();
    sets.effective = had;
    set_capabilities(None, sets)?;
    Ok(result)
}
