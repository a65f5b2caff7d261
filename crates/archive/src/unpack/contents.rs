//! What is in a file: pieces of the stream, written where they belong.

use super::{Unpacking, Writing};
use crate::direct::{self, ALIGNED, PIECE};
use crate::{Entries, Entry, Error, Stream};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

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
            let large = self.manner.writing == Writing::Direct && entry.sparse.is_none() && *length >= ALIGNED;
            let direct_until = if large && direct::begin(file) { length / ALIGNED * ALIGNED } else { 0 };
            let mut done = 0;
            while done < *length {
                let end = if done < direct_until { direct_until } else { *length };
                if direct_until > 0 && done == direct_until {
                    direct::end(file).map_err(failed)?;
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
                direct::end(file).map_err(failed)?;
            }
        }
        if entry.sparse.is_some() { file.set_len(entry.size).map_err(failed) } else { Ok(()) }
    }
}
