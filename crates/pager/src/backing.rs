//! The files of a snapshot's memory, as the kernel copies from them.

use crate::contents::{Bytes, Contents, Piece};
use crate::message::PAGE;
use crate::program::Order;
use fcvm_sys::mapping::{MappedFile, Part};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// A snapshot's memory, served to all of its machines.
#[derive(Debug)]
pub struct Backing {
    pub(crate) contents: Contents,
    /// Which parts are used at once, in bytes.
    pub(crate) working_set: Vec<Range<u64>>,
    memory: Source,
    overlay: Option<Source>,
}

#[derive(Debug)]
struct Source {
    file: File,
    mapped: MappedFile,
}

impl Source {
    fn of(file: File) -> io::Result<(Self, u64)> {
        let length = file.metadata()?.len();
        let mapped = MappedFile::of(&file, length)?;
        Ok((Self { file, mapped }, length))
    }
}

impl Backing {
    /// Opens a memory: its file, and that of the pages which take the place of its own.
    pub fn open(order: &Order, memory: File, overlay: Option<File>) -> io::Result<Self> {
        let (memory, size) = Source::of(memory)?;
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let contents = Contents::new(size, &data(&memory.file, size)?, &order.overlays).map_err(invalid)?;
        let overlay = overlay.map(|file| Source::of(file).map(|(source, _)| source)).transpose()?;
        let part = |(first, count): &(u64, u64)| {
            let (start, length) = (first.checked_mul(PAGE)?, count.checked_mul(PAGE)?);
            Some(start..start.checked_add(length)?.min(size))
        };
        let working_set = order.working_set.iter().filter_map(part).collect();
        Ok(Self { contents, working_set, memory, overlay })
    }

    /// Returns a piece for the kernel to copy from; none if its file has no such part. Zeros are nowhere.
    pub(crate) fn part(&self, piece: &Piece) -> Option<Part<'_>> {
        match piece.bytes {
            Bytes::Zero => None,
            Bytes::Memory(place) => self.memory.mapped.part(place, piece.length()),
            Bytes::Overlay(place) => self.overlay.as_ref()?.mapped.part(place, piece.length()),
        }
    }

    /// Reads pieces, one after the other.
    pub(crate) fn read(&self, pieces: &[Piece], into: &mut [u8]) -> io::Result<()> {
        let mut rest = into;
        for piece in pieces {
            let length = usize::try_from(piece.length()).map_err(io::Error::other)?;
            let (bytes, others) = rest.split_at_mut(length.min(rest.len()));
            match piece.bytes {
                Bytes::Zero => bytes.fill(0),
                Bytes::Memory(place) => self.memory.file.read_exact_at(bytes, place)?,
                Bytes::Overlay(place) => {
                    let overlay = self.overlay.as_ref().ok_or(io::ErrorKind::NotFound)?;
                    overlay.file.read_exact_at(bytes, place)?;
                }
            }
            rest = others;
        }
        Ok(())
    }
}

/// The parts of a file that are no holes, in whole pages.
fn data(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut parts: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start / PAGE * PAGE,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start.max(at)))?.next_multiple_of(PAGE).min(size);
        parts.push(start.max(at)..end);
        at = end;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found_and_pieces_read_from_where_they_are() {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(64 * PAGE).unwrap();
        memory.write_all_at(&[1; PAGE as usize], 8 * PAGE).unwrap();
        let overlay = tempfile::tempfile().unwrap();
        overlay.write_all_at(&[2; PAGE as usize + 100], 0).unwrap();
        let overlays = vec![crate::Overlay { start: 9 * PAGE, length: PAGE, place: 100 }];
        let working_set = vec![(3, 4), (60, 100), (u64::MAX, 1)];
        let backing = Backing::open(&Order { overlays, working_set }, memory, Some(overlay)).unwrap();
        assert_eq!(backing.working_set, [3 * PAGE..7 * PAGE, 60 * PAGE..64 * PAGE]);
        let pieces = backing.contents.pieces(7 * PAGE..11 * PAGE);
        let mut bytes = vec![9; 4 * PAGE as usize];
        backing.read(&pieces, &mut bytes).unwrap();
        let firsts: Vec<u8> = bytes.chunks(PAGE as usize).map(|page| page[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 0]);
        assert_eq!(pieces.iter().filter(|piece| backing.part(piece).is_some()).count(), 2);
        let beyond = Piece { start: 0, end: PAGE, bytes: Bytes::Overlay(200) };
        assert!(backing.part(&beyond).is_none());
    }
}
