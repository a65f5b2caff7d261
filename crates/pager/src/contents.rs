//! Where the bytes of a snapshot's memory are: in the memory file, in pages that take the place of its own, or nowhere,
//! which means zeros. Pure; the files are [`crate::backing`]'s.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// Nowhere: they are zeros.
    Zero,
    /// At this place of the memory file.
    Memory(u64),
    /// At this place of the file of pages.
    Overlay(u64),
}

impl Bytes {
    /// Where those are that follow so many bytes later.
    fn after(self, bytes: u64) -> Self {
        match self {
            Self::Zero => Self::Zero,
            Self::Memory(place) => Self::Memory(place + bytes),
            Self::Overlay(place) => Self::Overlay(place + bytes),
        }
    }
}

/// A part of the memory whose bytes are together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) bytes: Bytes,
}

impl Piece {
    pub(crate) fn length(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn within(self, range: &Range<u64>) -> Self {
        let start = self.start.max(range.start);
        Self { start, end: self.end.min(range.end), bytes: self.bytes.after(start - self.start) }
    }
}

/// Pages that take the place of those in the memory file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Where they are in the memory.
    pub start: u64,
    /// How long they are.
    pub length: u64,
    /// Where their bytes are in their file.
    pub place: u64,
}

/// What is wrong with the parts of a memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pages at {start:#x} are not in order, or beyond the memory")]
pub struct ContentsError {
    /// Where they would be.
    pub start: u64,
}

/// A snapshot's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    size: u64,
    /// In order. What is between them is zeros.
    pieces: Vec<Piece>,
}

impl Contents {
    /// Puts a memory together from the parts of its file that are no holes, and the pages that take the place of some.
    pub fn new(size: u64, data: &[Range<u64>], overlays: &[Overlay]) -> Result<Self, ContentsError> {
        let mut over = Vec::with_capacity(overlays.len());
        let mut end = 0;
        for overlay in overlays {
            let error = ContentsError { start: overlay.start };
            let last = overlay.start.checked_add(overlay.length).filter(|last| *last <= size).ok_or(error.clone())?;
            if overlay.start < end || overlay.place.checked_add(overlay.length).is_none() {
                return Err(error);
            }
            over.push(Piece { start: overlay.start, end: last, bytes: Bytes::Overlay(overlay.place) });
            end = last;
        }
        let mut pieces = Vec::with_capacity(over.len() + data.len());
        let mut hidden = over.iter().peekable();
        for part in data {
            let mut at = part.start;
            while at < part.end.min(size) {
                // What lies wholly before is of no matter any more.
                while hidden.next_if(|piece| piece.end <= at).is_some() {}
                let until = match hidden.peek() {
                    Some(piece) if piece.start <= at => {
                        at = piece.end;
                        continue;
                    }
                    Some(piece) => piece.start.min(part.end),
                    None => part.end,
                };
                pieces.push(Piece { start: at, end: until.min(size), bytes: Bytes::Memory(at) });
                at = until;
            }
        }
        pieces.extend(over);
        pieces.sort_unstable_by_key(|piece| piece.start);
        Ok(Self { size, pieces })
    }

    /// How long it is, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns where the bytes of a part of it are, without gaps.
    pub(crate) fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        let mut found = Vec::new();
        let mut at = range.start;
        let first = self.pieces.partition_point(|piece| piece.end <= range.start);
        for piece in self.pieces[first..].iter().take_while(|piece| piece.start < range.end) {
            let piece = piece.within(&range);
            if at < piece.start {
                found.push(Piece { start: at, end: piece.start, bytes: Bytes::Zero });
            }
            found.push(piece);
            at = piece.end;
        }
        if at < range.end {
            found.push(Piece { start: at, end: range.end, bytes: Bytes::Zero });
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overlay(start: u64, length: u64, place: u64) -> Overlay {
        Overlay { start, length, place }
    }

    fn piece(start: u64, end: u64, bytes: Bytes) -> Piece {
        Piece { start, end, bytes }
    }

    #[test]
    fn pages_take_the_place_of_the_files_and_of_its_holes() {
        let data = [0..40, 60..80];
        let contents = Contents::new(100, &data, &[overlay(10, 10, 1000), overlay(35, 30, 1010)]).unwrap();
        let expected = [
            piece(0, 10, Bytes::Memory(0)),
            piece(10, 20, Bytes::Overlay(1000)),
            piece(20, 35, Bytes::Memory(20)),
            piece(35, 65, Bytes::Overlay(1010)),
            piece(65, 80, Bytes::Memory(65)),
            piece(80, 100, Bytes::Zero),
        ];
        assert_eq!(contents.pieces(0..100), expected);
        assert_eq!(contents.pieces(15..22), [piece(15, 20, Bytes::Overlay(1005)), piece(20, 22, Bytes::Memory(20))]);
        assert_eq!(contents.pieces(85..90), [piece(85, 90, Bytes::Zero)]);
    }

    #[test]
    fn pages_out_of_order_or_beyond_the_memory_are_refused() {
        for overlays in [
            vec![overlay(20, 10, 0), overlay(10, 10, 10)],
            vec![overlay(10, 20, 0), overlay(20, 10, 20)],
            vec![overlay(95, 10, 0)],
            vec![overlay(u64::MAX, 2, 0)],
            vec![overlay(0, 10, u64::MAX)],
        ] {
            assert!(Contents::new(100, &[], &overlays).is_err(), "{overlays:?}");
        }
    }

    /// Byte by byte, as slowly and plainly as can be.
    fn plainly(data: &[Range<u64>], overlays: &[Overlay], at: u64) -> Bytes {
        if let Some(over) = overlays.iter().find(|over| (over.start..over.start + over.length).contains(&at)) {
            return Bytes::Overlay(over.place + at - over.start);
        }
        if data.iter().any(|part| part.contains(&at)) { Bytes::Memory(at) } else { Bytes::Zero }
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        prop::collection::vec(0_u64..200, 0..12).prop_map(|mut ends| {
            ends.sort_unstable();
            ends.dedup();
            ends.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
        })
    }

    proptest! {
        #[test]
        fn every_byte_is_where_it_is(data in ranges(), over in ranges(), from in 0_u64..200, length in 0_u64..200) {
            let overlays: Vec<Overlay> = over.iter().map(|range| overlay(range.start, range.end - range.start, 7000 + range.start * 3)).collect();
            let contents = Contents::new(200, &data, &overlays).unwrap();
            let range = from..(from + length).min(200);
            let mut at = range.start;
            for piece in contents.pieces(range.clone()) {
                prop_assert_eq!(piece.start, at);
                for byte in piece.start..piece.end {
                    prop_assert_eq!(piece.bytes.after(byte - piece.start), plainly(&data, &overlays, byte));
                }
                at = piece.end;
            }
            prop_assert_eq!(at, range.end.max(range.start));
        }
    }
}
