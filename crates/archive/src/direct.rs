//! Files past the page cache: in a guest what is copied is too much for it, and the cache costs more than the disk.

use rustix::fs::OFlags;
use std::fs::File;
use std::io;

/// How much of a file is read or written at once.
pub(crate) const PIECE: usize = 1 << 20;
/// What pieces that go past the cache begin at, in the file and in memory, and are multiples of: the largest block of any disk
/// here.
pub(crate) const ALIGNED: u64 = 4096;

/// What a file's bytes go through: where it begins they can go past the cache.
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; PIECE + ALIGNED as usize])
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let skipped = self.0.as_ptr().align_offset(ALIGNED as usize).min(ALIGNED as usize);
        &mut self.0[skipped..][..PIECE]
    }
}

/// Has a file read and written past the page cache; false where it cannot be.
pub(crate) fn begin(file: &File) -> bool {
    rustix::fs::fcntl_setfl(file, OFlags::DIRECT).is_ok()
}

/// Has it read and written through the cache again.
pub(crate) fn end(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(file, OFlags::empty())?)
}
