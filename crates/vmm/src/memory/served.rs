//! The memory of a monitor whose pages a server brings: all of them are the monitor's, so which are its own is found by
//! comparing.
//!
//! A page that is not there is the snapshot's, also one that the guest gave back: a guest expects nothing of such a page.

use super::pages::{self, Run};
use super::private::{Mapping, Private};
use super::{PAGE, Pages};
use fcvm_pager::Region;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How many pages are compared at once.
const PIECE: u64 = 64;

/// What a machine that a server serves started from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The memory file.
    pub(crate) file: File,
    /// The pages that take the place of some.
    pub(crate) pages: Option<File>,
    /// Where the monitor has its memory; none before it has said so.
    pub(crate) regions: Vec<Region>,
}

impl Origin {
    /// Opens what a machine is to start from.
    pub(crate) fn open(file: File, pages: Option<&Path>) -> io::Result<Self> {
        Ok(Self { file, pages: pages.map(File::open).transpose()?, regions: Vec::new() })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        let pages = self.pages.as_ref().map(File::try_clone).transpose()?;
        Ok(Self { file: self.file.try_clone()?, pages, regions: self.regions.clone() })
    }
}

/// The memory of one monitor.
#[derive(Debug)]
pub(super) struct Served {
    private: Private,
    origin: Origin,
    runs: Vec<Run>,
}

impl Served {
    /// Looks at the monitor with this number.
    pub(super) fn of(monitor: u32, origin: Origin) -> io::Result<Self> {
        let mapping = |region: &Region| Mapping { start: region.start, end: region.end(), offset: region.offset };
        let mut mappings: Vec<Mapping> = origin.regions.iter().map(mapping).collect();
        mappings.sort_unstable_by_key(|mapping| mapping.offset);
        let runs = origin.pages.as_ref().map(pages::runs).transpose()?.unwrap_or_default();
        Ok(Self { private: Private::at(monitor, mappings)?, origin, runs })
    }

    /// The pages are at most those that are there and those of the file of pages.
    pub(super) fn largest(&self) -> io::Result<u64> {
        let kept: u64 = self.runs.iter().map(|run| run.end() - run.start()).sum();
        Ok(self.private.largest()? + kept)
    }

    /// Finds the pages that the machine has used.
    pub(super) fn touched(&self) -> io::Result<Vec<(u64, u64)>> {
        self.private.touched()
    }

    /// Reads all pages that are not those of the memory file.
    pub(super) fn read(&self) -> io::Result<Pages> {
        let mut own = Pages::default();
        let mut known = 0;
        self.private.each_there(|first, address, count| {
            self.kept(known, first, &mut own)?;
            known = first + count;
            self.changed(first, address, count, &mut own)
        })?;
        self.kept(known, u64::MAX / PAGE, &mut own)?;
        Ok(own)
    }

    /// Takes those pages, of some that are there, which differ from the file's.
    fn changed(&self, first: u64, address: u64, count: u64, own: &mut Pages) -> io::Result<()> {
        let (mut is, mut was) = (vec![0; (PIECE * PAGE) as usize], vec![0; (PIECE * PAGE) as usize]);
        for start in (0..count).step_by(PIECE as usize) {
            let length = (PIECE.min(count - start) * PAGE) as usize;
            let (is, was) = (&mut is[..length], &mut was[..length]);
            self.private.read_at(is, address + start * PAGE)?;
            self.origin.file.read_exact_at(was, (first + start) * PAGE)?;
            for (index, page) in is.chunks(PAGE as usize).enumerate() {
                let place = index * PAGE as usize;
                if page != &was[place..place + page.len()] {
                    own.extend(first + start + index as u64, 1).copy_from_slice(page);
                }
            }
        }
        Ok(())
    }

    /// Takes those of the file of pages that lie between two pages of the memory: they are not in the monitor.
    fn kept(&self, from: u64, to: u64, own: &mut Pages) -> io::Result<()> {
        let Some(file) = &self.origin.pages else { return Ok(()) };
        let behind = self.runs.partition_point(|run| run.first + run.count <= from);
        for run in self.runs[behind..].iter().take_while(|run| run.first < to) {
            let (first, last) = (run.first.max(from), (run.first + run.count).min(to));
            let place = run.place + (first - run.first) * PAGE;
            file.read_exact_at(own.extend(first, last - first), place)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_sys::mapping::{Anonymous, PageSize};
    use std::io::Seek;

    /// Eight pages: the file holds their numbers, the file of pages has another third and sixth. This process has the first
    /// four, in a region that is higher than the rest.
    #[test]
    fn own_pages_are_those_that_differ_and_those_of_the_snapshot_that_were_not_used() {
        let (file, mut pages) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        for page in 0..8 {
            file.write_all_at(&[page; PAGE as usize], u64::from(page) * PAGE).unwrap();
        }
        let mut kept = Pages::default();
        kept.extend(2, 1).fill(22);
        kept.extend(5, 2).fill(55);
        kept.write(&mut pages).unwrap();
        pages.rewind().unwrap();
        let memory = Anonymous::new(8 * PAGE, PageSize::Base).unwrap();
        let start = memory.address();
        let region = |start, offset| Region { start, size: 4 * PAGE, offset, page_size: PAGE };
        let regions = vec![region(start, 4 * PAGE), region(start + 4 * PAGE, 0)];
        for (page, byte) in [(4, 0_u8), (5, 1), (6, 22), (1, 55), (2, 99)] {
            (0..PAGE).for_each(|at| memory.write(page * PAGE + at, byte));
        }
        memory.write(5 * PAGE + 7, 77);
        let served = Served::of(std::process::id(), Origin { file, pages: Some(pages), regions }).unwrap();
        let mut found = Vec::new();
        let mut written = Vec::new();
        served.read().unwrap().write(&mut written).unwrap();
        Pages::read_each(&mut &written[..], |place, bytes| {
            let pages = bytes.chunks(PAGE as usize).enumerate();
            found.extend(pages.map(|(index, page)| (place / PAGE + index as u64, page[0])));
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [(1, 1), (2, 22), (5, 55), (6, 99)]);
        assert_eq!(served.touched().unwrap(), [(0, 3), (5, 2)]);
        assert!(served.largest().unwrap() >= 8 * PAGE);
    }
}
