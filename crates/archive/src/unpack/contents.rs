//! What is in a file: pieces of the stream, written where they belong.

use super::{Unpacking, Writing};
use crate::{Entries, Entry, Error, Stream};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

/// How much of a file is written at once.
const PIECE: usize = 1 << 20;
/// What writes past the page cache begin at and are multiples of: the largest block of any disk here.
const ALIGNED: u64 = 4096;
impl Unpacking {
    pub(super) fn contents<R: Read>(
        &mut self,
        mut file: &File,
        entry: &Entry,
        entries: &mut Entries<Stream<R>>,
    ) -> Result<(), Error> {
        let failed = |error| Error::of_name("write", &entry.name, error);
        let mut source = entries.stored();
        let whole = [(0, entry.size)];
        let pieces = entry.sparse.as_ref().map_or(&whole[..], |sparse| sparse.pieces());
        for (offset, length) in pieces {
            let too_much = || Error::hostile(&entry.name, "more comes than there can be");
            self.left.bytes = self.left.bytes.checked_sub(*length).ok_or_else(too_much)?;
            let direct = self.manner.writing == Writing::Direct && entry.sparse.is_none() && *length >= ALIGNED;
            let direct_until = if direct && begin_direct(file) { length / ALIGNED * ALIGNED } else { 0 };
            let mut done = 0;
            while done < *length {
                let end = if done < direct_until { direct_until } else { *length };
                if direct_until > 0 && done == direct_until {
                    end_direct(file).map_err(failed)?;
                }
                let wanted = PIECE.min((end - done) as usize);
                let piece = &mut self.buffer.bytes()[..wanted];
                source.read_exact(piece)?;
                if entry.sparse.is_some() {
                    file.write_all_at(piece, offset + done).map_err(failed)?;
                } else {
                    file.write_all(piece).map_err(failed)?;
                }
                done += wanted as u64;
            }
            if direct_until == *length {
                end_direct(file).map_err(failed)?;
            }
        }
        if entry.sparse.is_some() { file.set_len(entry.size).map_err(failed) } else { Ok(()) }
    }
}

/// What a file is read into: where it begins it can be written from past the page cache.
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(vec![0; PIECE + ALIGNED as usize])
    }

    fn bytes(&mut self) -> &mut [u8] {
        let skipped = self.0.as_ptr().align_offset(ALIGNED as usize).min(ALIGNED as usize);
        &mut self.0[skipped..][..PIECE]
    }
}

/// Has a file written past the page cache; false where it cannot be.
fn begin_direct(file: &File) -> bool {
    rustix::fs::fcntl_setfl(file, OFlags::DIRECT).is_ok()
}

fn end_direct(file: &File) -> std::io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(file, OFlags::empty())?)
}
