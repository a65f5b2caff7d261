//! The memory of one machine: which of its pages are there, and what is done about an event. Pure.
//!
//! ```text
//!            fault, replay              given back
//!  Missing ───────────────► Served ─────────────────┐
//!     │                                             ▼     fault
//!     └─────────────────── given back ──────────► Empty ─────────► Zeroed ──┐
//!                                                   ▲                       │
//!                                                   └────── given back ─────┘
//! ```
//! *Served*: the snapshot's bytes are there. A fault there is one that was answered meanwhile: who waits is woken.
//! *Empty*: the machine gave the page back; what is there next is zeros, never again the snapshot's bytes.
//! *Zeroed*: zeros were put there. The kernel may have dropped them again, if that came between the machine's word and
//! its deed; so a fault there puts them once more.

use crate::contents::{Bytes, Contents, Piece};
use crate::message::{PAGE, Region};
use std::ops::Range;

/// How many pages come with one that is touched, itself included.
const AROUND: u64 = 16;

/// A page of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Served,
    Empty,
    Zeroed,
}

/// A region and its pages.
#[derive(Debug)]
struct Span {
    region: Region,
    pages: Vec<State>,
}

/// The memory of one machine.
#[derive(Debug)]
pub(crate) struct Table {
    /// In the order of their addresses.
    spans: Vec<Span>,
}

/// What a fault asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Pages are to be put there.
    Fill(Vec<Fill>),
    /// The page is there; who waits for it goes on.
    Wake {
        /// Its address.
        start: u64,
        /// Its size.
        length: u64,
    },
}

/// Pages to be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// At this address.
    pub(crate) to: u64,
    /// The size of the pages.
    pub(crate) page_size: u64,
    /// Their bytes, one piece after the other. Small pages are of one piece.
    pub(crate) pieces: Vec<Piece>,
}

impl Fill {
    pub(crate) fn length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }
}

/// An event of an address that is none of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the address {0:#x}, which is none of the machine's memory")]
pub(crate) struct Stray(pub(crate) u64);

impl Table {
    /// Makes that of a machine in which nothing is there yet.
    pub(crate) fn new(regions: Vec<Region>) -> Self {
        let span = |region: Region| {
            let count = usize::try_from(region.size / region.page_size).unwrap_or(usize::MAX);
            Span { region, pages: vec![State::Missing; count] }
        };
        Self { spans: regions.into_iter().map(span).collect() }
    }

    /// Says what is to be done about a fault.
    pub(crate) fn fault(&self, address: u64, contents: &Contents) -> Result<Answer, Stray> {
        let (span, page) = self.find(address)?;
        let state = span.pages[page];
        Ok(match state {
            State::Served => Answer::Wake { start: span.address(page), length: span.region.page_size },
            State::Zeroed => Answer::Fill(span.fills(page..page + 1, State::Zeroed, contents)),
            State::Missing | State::Empty => Answer::Fill(span.fills(span.around(page), state, contents)),
        })
    }

    /// Notes that a range was given back. One that is none of ours is of no matter.
    pub(crate) fn removed(&mut self, start: u64, end: u64) {
        for span in &mut self.spans {
            let (from, to) = (start.max(span.region.start), end.min(span.region.end()));
            if from < to {
                let size = span.region.page_size;
                let first = (from - span.region.start).div_ceil(size) as usize;
                let last = ((to - span.region.start) / size) as usize;
                if let Some(pages) = span.pages.get_mut(first..last) {
                    pages.fill(State::Empty);
                }
            }
        }
    }

    /// Notes that pages are there now. They are all in one region.
    pub(crate) fn placed(&mut self, to: u64, length: u64) {
        let Some(span) = self.spans.iter_mut().find(|span| span.holds(to)) else { return };
        let first = span.page(to);
        let last = first + (length / span.region.page_size) as usize;
        for page in span.pages.get_mut(first..last).into_iter().flatten() {
            *page = match page {
                State::Missing | State::Served => State::Served,
                State::Empty | State::Zeroed => State::Zeroed,
            };
        }
    }

    /// Returns what is missing of a part of the memory that nobody has asked for yet.
    pub(crate) fn missing(&self, places: &Range<u64>, contents: &Contents) -> Vec<Fill> {
        let mut fills = Vec::new();
        for span in &self.spans {
            let Region { offset, size, page_size, .. } = span.region;
            let (from, to) = (places.start.max(offset), places.end.min(offset + size));
            if from < to {
                let pages = ((from - offset) / page_size) as usize..(to - offset).div_ceil(page_size) as usize;
                fills.extend(span.fills(pages, State::Missing, contents));
            }
        }
        fills
    }

    fn find(&self, address: u64) -> Result<(&Span, usize), Stray> {
        let after = self.spans.partition_point(|span| span.region.start <= address);
        let span = after.checked_sub(1).map(|index| &self.spans[index]).filter(|span| span.holds(address));
        span.map(|span| (span, span.page(address))).ok_or(Stray(address))
    }
}

impl Span {
    fn holds(&self, address: u64) -> bool {
        (self.region.start..self.region.end()).contains(&address)
    }

    fn page(&self, address: u64) -> usize {
        ((address - self.region.start) / self.region.page_size) as usize
    }

    fn address(&self, page: usize) -> u64 {
        self.region.start + page as u64 * self.region.page_size
    }

    /// The pages that come with one that is touched: those in the same state, in a window of the memory.
    fn around(&self, page: usize) -> Range<usize> {
        let pages = (AROUND * PAGE / self.region.page_size).max(1) as usize;
        let start = page / pages * pages;
        let window = start..(start + pages).min(self.pages.len());
        let same = |other: &usize| self.pages[*other] == self.pages[page];
        let first = (window.start..page).rev().take_while(same).last().unwrap_or(page);
        let last = (page..window.end).take_while(same).last().unwrap_or(page);
        first..last + 1
    }

    /// What has to be put into those of some pages that are in a state.
    fn fills(&self, pages: Range<usize>, state: State, contents: &Contents) -> Vec<Fill> {
        let mut fills = Vec::new();
        let mut at = pages.start;
        while at < pages.end.min(self.pages.len()) {
            let run =
                self.pages[at..pages.end.min(self.pages.len())].iter().take_while(|other| **other == state).count();
            if run > 0 {
                self.fill(at..at + run, state, contents, &mut fills);
            }
            at += run + 1;
        }
        fills
    }

    fn fill(&self, pages: Range<usize>, state: State, contents: &Contents, into: &mut Vec<Fill>) {
        let Region { offset, page_size, .. } = self.region;
        let places = offset + pages.start as u64 * page_size..offset + pages.end as u64 * page_size;
        let address = |place: u64| self.region.start + (place - offset);
        let fill = |pieces: Vec<Piece>| Fill { to: address(pieces[0].start), page_size, pieces };
        let pieces = match state {
            State::Empty | State::Zeroed => vec![Piece { start: places.start, end: places.end, bytes: Bytes::Zero }],
            State::Missing | State::Served => contents.pieces(places.clone()),
        };
        if page_size == PAGE {
            into.extend(pieces.into_iter().map(|piece| fill(vec![piece])));
            return;
        }
        // A huge page is put whole, whatever it is made of.
        for start in places.clone().step_by(page_size as usize) {
            let page = start..start + page_size;
            let parts = pieces.iter().filter(|piece| piece.start < page.end && piece.end > page.start);
            into.push(fill(parts.map(|piece| piece.within(&page)).collect()));
        }
    }
}

#[cfg(test)]
mod tests;
