//! Sparse files in tar archives (GNU's old format and its three pax formats): where the stored bytes go.

use crate::pax::{Pax, decimal};
use std::io::{self, Read};
use tar::{GnuExtSparseHeader, GnuSparseHeader};

/// More pieces than this have only hostile archives.
pub(crate) const PIECES_MAX: usize = 1 << 18;

/// A file's size and the stored pieces of it, in order; the rest is zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub(crate) size: u64,
    /// Offset and length.
    pieces: Vec<(u64, u64)>,
}

impl Sparse {
    /// Checks that pieces are in order, within the file, and together as long as what is stored.
    pub(crate) fn new(size: u64, pieces: Vec<(u64, u64)>, stored: u64) -> Option<Self> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for (offset, length) in &pieces {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length)?;
            sum = sum.checked_add(*length)?;
        }
        (pieces.len() <= PIECES_MAX && end <= size && sum == stored).then_some(Self { size, pieces })
    }

    /// The stored pieces: offset and length of each.
    pub(crate) fn pieces(&self) -> &[(u64, u64)] {
        &self.pieces
    }

    /// How many bytes are stored.
    pub(crate) fn stored(&self) -> u64 {
        self.pieces.iter().map(|(_, length)| length).sum()
    }

    /// Returns where stored bytes go by pax headers before version 1.0; nothing if there is no such map.
    pub(crate) fn pieces_of(pax: &Pax) -> Option<Vec<(u64, u64)>> {
        if let Some(map) = pax.get("GNU.sparse.map") {
            let numbers: Option<Vec<u64>> = map.split(|byte| *byte == b',').map(decimal).collect();
            return Some(pairs(numbers?));
        }
        pax.get("GNU.sparse.numblocks")?;
        let offsets = pax.all("GNU.sparse.offset").map(decimal);
        offsets
            .zip(pax.all("GNU.sparse.numbytes").map(decimal))
            .map(|(offset, length)| Some((offset?, length?)))
            .collect()
    }
}

fn pairs(numbers: Vec<u64>) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Reads the map that version 1.0 puts before the data: decimal lines in whole blocks. Returns it and its length in bytes.
pub(crate) fn read_map(data: &mut dyn Read) -> io::Result<(Vec<(u64, u64)>, u64)> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a sparse map is malformed");
    let (mut numbers, mut line, mut length) = (Vec::new(), Vec::new(), 0);
    loop {
        let mut block = [0; 512];
        data.read_exact(&mut block)?;
        length += 512;
        for byte in block {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > 20 {
                    return Err(malformed());
                }
                continue;
            }
            numbers.push(decimal(&line).ok_or_else(malformed)?);
            line.clear();
            let count = numbers[0];
            if count > PIECES_MAX as u64 {
                return Err(malformed());
            }
            if numbers.len() as u64 == 1 + 2 * count {
                return Ok((pairs(numbers.split_off(1)), length));
            }
        }
    }
}

/// Reads the pieces of the old format's header blocks; `Err` if a number is none.
pub(crate) fn old_pieces(headers: &[GnuSparseHeader], pieces: &mut Vec<(u64, u64)>) -> Result<(), ()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        let (offset, length) = (header.offset().map_err(drop)?, header.length().map_err(drop)?);
        pieces.push((offset, length));
    }
    Ok(())
}

/// Reads a continuation block of the old format.
pub(crate) fn read_extension(data: &mut dyn Read) -> io::Result<GnuExtSparseHeader> {
    let mut header = GnuExtSparseHeader::new();
    data.read_exact(header.as_mut_bytes())?;
    Ok(header)
}

/// A sparse file's bytes, zeros and all.
pub(crate) struct Expanded<R> {
    stored: R,
    sparse: Sparse,
    next_piece: usize,
    position: u64,
}

impl<R: Read> Expanded<R> {
    pub(crate) fn new(stored: R, sparse: Sparse) -> Self {
        Self { stored, sparse, next_piece: 0, position: 0 }
    }
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, length)) = self.sparse.pieces.get(self.next_piece).copied() {
            if self.position < offset + length {
                break;
            }
            self.next_piece += 1;
        }
        let (from, until) = match self.sparse.pieces.get(self.next_piece) {
            Some((offset, length)) => (*offset, offset + length),
            None => (self.sparse.size, self.sparse.size),
        };
        let end = if self.position < from { from } else { until };
        let wanted = (end - self.position).min(buffer.len() as u64) as usize;
        let count = if self.position < from {
            buffer[..wanted].fill(0);
            wanted
        } else {
            self.stored.read(&mut buffer[..wanted])?
        };
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_put_where_they_belong() {
        let sparse = Sparse::new(12, vec![(0, 0), (2, 3), (8, 2), (12, 0)], 5).unwrap();
        let mut out = Vec::new();
        Expanded::new(&b"abcde"[..], sparse).read_to_end(&mut out).unwrap();
        assert_eq!(out, b"\0\0abc\0\0\0de\0\0");
    }

    #[test]
    fn pieces_that_overlap_leave_the_file_or_lie_about_their_sum_are_refused() {
        for (pieces, stored) in
            [(vec![(0, 4), (3, 2)], 6), (vec![(8, 5)], 5), (vec![(0, 4)], 5), (vec![(u64::MAX, 2)], 2)]
        {
            assert_eq!(Sparse::new(12, pieces, stored), None);
        }
    }

    #[test]
    fn a_map_before_the_data_is_read() {
        let mut text = b"2\n0\n5\n1024\n1\n".to_vec();
        text.resize(512, 0);
        assert_eq!(read_map(&mut &text[..]).unwrap(), (vec![(0, 5), (1024, 1)], 512));
        assert!(read_map(&mut &b"1\n"[..]).is_err());
        assert!(read_map(&mut &[b'9'; 512][..]).is_err());
    }
}
