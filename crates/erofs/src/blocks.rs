//! The output: bytes appended in order, zero blocks left out as holes. What they mean is decided elsewhere.

use crate::format::BLOCK;
use crate::tree::Extent;
use crate::{Error, Limits};
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// Bytes are collected to this size before they are written.
const BUFFER: usize = 256 << 10;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// A file that is written from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Blocks {
    file: File,
    /// Where the buffer's first byte goes; a multiple of the block size.
    start: u64,
    buffer: Vec<u8>,
    limit: u64,
}

impl Blocks {
    /// Empties the file and leaves the first block out: it is written last.
    pub(crate) fn new(file: File, limits: &Limits) -> Result<Self, Error> {
        file.set_len(0).map_err(Error::Write)?;
        // Block numbers are u32.
        let limit = limits.size.min(u64::from(u32::MAX) * BLOCK as u64);
        Ok(Self { file, start: BLOCK as u64, buffer: Vec::with_capacity(BUFFER), limit })
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// The number of the next block; the position must be at its beginning.
    pub(crate) fn next_block(&self) -> u32 {
        debug_assert_eq!(self.position() % BLOCK as u64, 0);
        (self.position() / BLOCK as u64) as u32
    }

    /// Appends exactly `size` bytes of a stream, from the beginning of a block, and fills the last block with zeros.
    pub(crate) fn append_stream(&mut self, size: u64, data: &mut dyn Read) -> Result<Extent, Error> {
        self.reserve(size)?;
        let first = self.next_block();
        let mut missing = size;
        while missing > 0 {
            let used = self.buffer.len();
            let wanted = missing.min((BUFFER - used) as u64) as usize;
            self.buffer.resize(used + wanted, 0);
            let read = read_some(data, &mut self.buffer[used..]);
            self.buffer.truncate(used + *read.as_ref().unwrap_or(&0));
            match read.map_err(Error::Read)? {
                0 => return Err(Error::Truncated { missing }),
                count => missing -= count as u64,
            }
            self.flush_if_full()?;
        }
        self.align()?;
        Ok(Extent { first, count: self.next_block() - first })
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.reserve(bytes.len() as u64)?;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            self.flush_if_full()?;
        }
        Ok(())
    }

    /// Appends zeros up to a position.
    pub(crate) fn pad_to(&mut self, position: u64) -> Result<(), Error> {
        while self.position() < position {
            let count = (position - self.position()).min(BLOCK as u64) as usize;
            self.append(&ZEROS[..count])?;
        }
        Ok(())
    }

    /// Appends zeros up to the next block.
    pub(crate) fn align(&mut self) -> Result<(), Error> {
        self.pad_to(self.position().next_multiple_of(BLOCK as u64))
    }

    /// Gives back the space of blocks that are needed no more. Where the file system cannot, the space stays used.
    pub(crate) fn punch(&mut self, extent: Extent) -> Result<(), Error> {
        self.flush()?;
        let (offset, length) = (u64::from(extent.first) * BLOCK as u64, u64::from(extent.count) * BLOCK as u64);
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, how, offset, length) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            Err(error) => Err(Error::Write(error.into())),
        }
    }

    /// Writes what is left and the first block, and returns the file with its length set.
    pub(crate) fn finish(mut self, first_block: &[u8; BLOCK]) -> Result<File, Error> {
        self.align()?;
        self.flush()?;
        self.file.set_len(self.start).map_err(Error::Write)?;
        self.file.write_all_at(first_block, 0).map_err(Error::Write)?;
        Ok(self.file)
    }

    fn reserve(&self, bytes: u64) -> Result<(), Error> {
        match self.position().checked_add(bytes) {
            Some(end) if end <= self.limit => Ok(()),
            _ => Err(Error::TooLarge { limit: self.limit }),
        }
    }

    fn flush_if_full(&mut self) -> Result<(), Error> {
        if self.buffer.len() == BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes the buffer, which ends with a whole block, in runs of blocks that are not zero.
    fn flush(&mut self) -> Result<(), Error> {
        debug_assert_eq!(self.buffer.len() % BLOCK, 0);
        let blocks = self.buffer.chunks_exact(BLOCK).map(|block| block != ZEROS);
        let holds: Vec<bool> = blocks.chain([false]).collect();
        let mut from = 0;
        while let Some(begin) = holds[from..].iter().position(|holds| *holds).map(|at| from + at) {
            let end = begin + holds[begin..].iter().position(|holds| !*holds).expect("the last is false");
            let (bytes, offset) = (&self.buffer[begin * BLOCK..end * BLOCK], (begin * BLOCK) as u64);
            self.file.write_all_at(bytes, self.start + offset).map_err(Error::Write)?;
            from = end;
        }
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn read_some(data: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match data.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
