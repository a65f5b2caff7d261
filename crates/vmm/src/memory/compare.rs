//! Saved memories compared page by page.

use super::PAGE;
use super::pages::{self, Run};
use serde::Serialize;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// How much is compared at once, in bytes: a multiple of a page.
const PIECE: u64 = 1 << 20;

/// The memory of a saved machine.
#[derive(Debug)]
pub struct SavedMemory {
    file: File,
    /// Which file it is, on this host.
    identity: (u64, u64),
    size: u64,
    pages: Option<(File, Vec<Run>)>,
}

/// How much differs between two memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Differing {
    /// Pages that differ.
    pub differing: u64,
    /// Pages that there are.
    pub of: u64,
}

impl SavedMemory {
    /// Opens a memory file and the pages that take the place of its own.
    pub fn open(memory: &Path, pages: Option<&Path>) -> io::Result<Self> {
        let file = File::open(memory)?;
        let metadata = file.metadata()?;
        let read = |path: &Path| {
            let file = File::open(path)?;
            let runs = pages::runs(&file)?;
            Ok::<_, io::Error>((file, runs))
        };
        let pages = pages.map(read).transpose()?;
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), size: metadata.len(), pages })
    }

    /// Reads a piece; beyond the end are zeros.
    fn read(&self, start: u64, into: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(self.size.saturating_sub(start)).map_or(into.len(), |rest| rest.min(into.len()));
        let (inside, beyond) = into.split_at_mut(there);
        self.file.read_exact_at(inside, start)?;
        beyond.fill(0);
        let Some((file, runs)) = &self.pages else { return Ok(()) };
        let end = start + into.len() as u64;
        for run in overlapping(runs, start, end) {
            let (from, to) = (run.start().max(start), run.end().min(end));
            let into = &mut into[(from - start) as usize..(to - start) as usize];
            file.read_exact_at(into, run.place + (from - run.start()))?;
        }
        Ok(())
    }

    /// Whether any page of a piece is not that of the file.
    fn differs_from_file(&self, start: u64, end: u64) -> bool {
        self.pages.as_ref().is_some_and(|(_, runs)| overlapping(runs, start, end).next().is_some())
    }

    /// Counts the pages that differ from another's. Blocks.
    pub fn differing(&self, other: &Self) -> io::Result<Differing> {
        let size = self.size.max(other.size);
        let same_file = self.identity == other.identity;
        let (mut ours, mut theirs) = (vec![0; PIECE as usize], vec![0; PIECE as usize]);
        let mut differing = 0;
        for start in (0..size).step_by(PIECE as usize) {
            let end = start + PIECE;
            if same_file && !self.differs_from_file(start, end) && !other.differs_from_file(start, end) {
                continue;
            }
            self.read(start, &mut ours)?;
            other.read(start, &mut theirs)?;
            if ours != theirs {
                let pages = ours.chunks(PAGE as usize).zip(theirs.chunks(PAGE as usize));
                differing += pages.filter(|(ours, theirs)| ours != theirs).count() as u64;
            }
        }
        Ok(Differing { differing, of: size.div_ceil(PAGE) })
    }
}

/// The runs that have bytes of a piece; runs are in order.
fn overlapping(runs: &[Run], start: u64, end: u64) -> impl Iterator<Item = &Run> {
    let first = runs.partition_point(|run| run.end() <= start);
    runs[first..].iter().take_while(move |run| run.start() < end)
}

#[cfg(test)]
mod tests {
    use super::super::Pages;
    use super::*;

    /// Four pages, the second and the fourth empty, and pages of another file in the place of some.
    fn memory(dir: &Path, name: &str, pages: &[(u64, u8)]) -> SavedMemory {
        let file = dir.join("memory");
        let bytes: Vec<u8> = [1, 0, 3, 0].iter().flat_map(|byte| [*byte; PAGE as usize]).collect();
        if !file.exists() {
            std::fs::write(&file, bytes).unwrap();
        }
        let mut own = Pages::default();
        for (first, byte) in pages {
            own.extend(*first, 1).fill(*byte);
        }
        let path = dir.join(name);
        own.write(&mut File::create(&path).unwrap()).unwrap();
        SavedMemory::open(&file, Some(&path)).unwrap()
    }

    #[test]
    fn pages_are_compared_by_what_a_machine_would_see() {
        let dir = tempfile::tempdir().unwrap();
        let plain = SavedMemory::open(&dir.path().join("memory"), None);
        assert!(plain.is_err(), "there is no file yet");
        let one = memory(dir.path(), "one", &[(0, 9), (2, 3)]);
        let other = memory(dir.path(), "other", &[(0, 9), (3, 7)]);
        let plain = SavedMemory::open(&dir.path().join("memory"), None).unwrap();
        let differ = |differing| Differing { differing, of: 4 };
        assert_eq!(one.differing(&plain).unwrap(), differ(1), "a page of its own may be equal");
        assert_eq!(one.differing(&other).unwrap(), differ(1));
        assert_eq!(plain.differing(&other).unwrap(), differ(2));
        assert_eq!(plain.differing(&plain).unwrap(), differ(0));
    }

    #[test]
    fn memories_of_two_files_are_compared_too_also_of_two_lengths() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = memory(one.path(), "pages", &[]);
        std::fs::write(other.path().join("memory"), [1; 5 * PAGE as usize]).unwrap();
        let second = SavedMemory::open(&other.path().join("memory"), None).unwrap();
        assert_eq!(first.differing(&second).unwrap(), Differing { differing: 4, of: 5 });
    }
}
