//! Pages of a guest's memory, and the file that keeps them.
//!
//! ```text
//! magic "FCVMPAGE" (8)   runs (u64)   then each run: first page (u64)  pages (u64)   then all bytes of all runs
//! ```
//! Numbers are little-endian. A page that is not in a run is that of the memory file which goes with these pages.

use super::PAGE;
use std::fs::File;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"FCVMPAGE";
/// The most pages that a file may claim: 1 TiB.
const MOST: u64 = 1 << 28;

/// Pages in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// First page and number of pages of each run.
    runs: Vec<(u64, u64)>,
    bytes: Vec<u8>,
}

impl Pages {
    /// Adds pages behind all that there are, and returns where their bytes go.
    pub(super) fn extend(&mut self, first: u64, count: u64) -> &mut [u8] {
        match self.runs.last_mut() {
            Some((start, length)) if *start + *length == first => *length += count,
            _ => self.runs.push((first, count)),
        }
        let known = self.bytes.len();
        self.bytes.resize(known + usize::try_from(count * PAGE).expect("pages fit into memory"), 0);
        &mut self.bytes[known..]
    }

    /// How many pages there are.
    pub fn count(&self) -> u64 {
        self.bytes.len() as u64 / PAGE
    }

    /// Writes the file.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(MAGIC)?;
        to.write_all(&(self.runs.len() as u64).to_le_bytes())?;
        for (first, count) in &self.runs {
            to.write_all(&first.to_le_bytes())?;
            to.write_all(&count.to_le_bytes())?;
        }
        to.write_all(&self.bytes)
    }

    /// Reads a file piece by piece; calls `take` with the place of each piece, in bytes, and the piece.
    pub fn read_each(from: &mut impl Read, mut take: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        const PIECE: u64 = 64;
        read_magic(from)?;
        let mut buffer = vec![0; (PIECE * PAGE) as usize];
        for Run { first, count, .. } in read_runs(from)? {
            let mut done = 0;
            while done < count {
                let pages = PIECE.min(count - done);
                let piece = &mut buffer[..(pages * PAGE) as usize];
                from.read_exact(piece)?;
                take((first + done) * PAGE, piece)?;
                done += pages;
            }
        }
        Ok(())
    }
}

/// Pages in a row, of which a file holds the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first page.
    pub(super) first: u64,
    /// How many there are.
    pub(super) count: u64,
    /// Where their bytes begin in the file.
    pub(super) place: u64,
}

impl Run {
    /// Where it begins in the memory, in bytes.
    pub(super) fn start(&self) -> u64 {
        self.first * PAGE
    }

    /// Where it ends in the memory, in bytes.
    pub(super) fn end(&self) -> u64 {
        (self.first + self.count) * PAGE
    }
}

/// Reads which parts of the memory a file of pages holds: where each is in the memory, its length, and where it is in the
/// file, in bytes.
pub fn parts(file: &File) -> io::Result<Vec<(u64, u64, u64)>> {
    Ok(runs(file)?.iter().map(|run| (run.start(), run.end() - run.start(), run.place)).collect())
}

/// Reads which pages a file holds.
pub(super) fn runs(file: &File) -> io::Result<Vec<Run>> {
    let mut file = io::BufReader::new(file);
    read_magic(&mut file)?;
    read_runs(&mut file)
}

fn read_magic(from: &mut impl Read) -> io::Result<()> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic)?;
    if magic == *MAGIC { Ok(()) } else { Err(damaged("it does not begin as a file of pages")) }
}

fn read_runs(from: &mut impl Read) -> io::Result<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    let (mut end, mut total) = (0, 0);
    for _ in 0..read_number(from)? {
        let (first, count) = (read_number(from)?, read_number(from)?);
        if first < end || count == 0 || count > MOST || first > MOST {
            return Err(damaged("its runs of pages are not in order"));
        }
        end = first + count;
        runs.push(Run { first, count, place: total });
        total += count * PAGE;
    }
    let head = (MAGIC.len() + size_of::<u64>() + runs.len() * 2 * size_of::<u64>()) as u64;
    for run in &mut runs {
        run.place += head;
    }
    Ok(runs)
}

fn read_number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Pages {
        let mut pages = Pages::default();
        pages.extend(3, 1).fill(3);
        pages.extend(4, 1).fill(4);
        pages.extend(100, 70).fill(9);
        pages
    }

    fn read(file: &[u8]) -> io::Result<Vec<(u64, usize, u8)>> {
        let mut seen = Vec::new();
        Pages::read_each(&mut &file[..], |place, bytes| {
            seen.push((place, bytes.len(), bytes[bytes.len() - 1]));
            Ok(())
        })?;
        Ok(seen)
    }

    #[test]
    fn what_is_written_is_read_in_bounded_pieces() {
        let mut file = Vec::new();
        some().write(&mut file).unwrap();
        assert_eq!(some().count(), 72);
        let page = PAGE as usize;
        let expected = [(3 * PAGE, 2 * page, 4), (100 * PAGE, 64 * page, 9), (164 * PAGE, 6 * page, 9)];
        assert_eq!(read(&file).unwrap(), expected);
    }

    #[test]
    fn a_damaged_file_is_an_error_at_every_length_and_never_a_large_allocation() {
        let mut file = Vec::new();
        some().write(&mut file).unwrap();
        for length in [0, 7, 8, 15, 16, 31, 40, file.len() - 1] {
            assert!(read(&file[..length]).is_err(), "{length}");
        }
        let mut many = file.clone();
        many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&many).is_err());
        let mut backwards = file.clone();
        backwards[32..40].copy_from_slice(&0_u64.to_le_bytes());
        assert!(read(&backwards).is_err());
        file[0] = b'X';
        assert!(read(&file).is_err());
    }
}
