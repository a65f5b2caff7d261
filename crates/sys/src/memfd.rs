//! Memory in a file that has no name: a guest's memory, shared between its monitor and its owner.

use rustix::fs::{MemfdFlags, SealFlags};
use std::io;
use std::os::fd::OwnedFd;

/// Creates a memory file of `size` bytes whose size can never change. Its pages exist once they are written.
///
/// `name` is seen in `/proc/PID/maps` only.
pub fn create(name: &str, size: u64) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, size)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file)
}

/// Creates an empty memory file that grows as it is written.
pub fn growing(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_file_has_its_size_and_keeps_it() {
        let file = create("test", 1 << 20).unwrap();
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 1 << 20);
        assert!(rustix::fs::ftruncate(&file, 1).is_err());
        assert!(rustix::fs::ftruncate(&file, 2 << 20).is_err());
    }
}
