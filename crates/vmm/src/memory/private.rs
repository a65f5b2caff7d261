//! The memory of a monitor that maps a saved file privately: which pages are its own, read and written from outside.
//!
//! The kernel says so in `/proc/PID/pagemap`: a page of a private mapping that is no page of the file is one that the
//! machine wrote. `/proc/PID/mem` reads and writes them.

use super::{PAGE, Pages};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// The mapped memory of one monitor.
#[derive(Debug)]
pub(super) struct Private {
    monitor: u32,
    mappings: Vec<Mapping>,
    pagemap: File,
    memory: File,
}

/// A part of the memory in the monitor's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The place in the file.
    pub(super) offset: u64,
}

/// Bits of an entry of `pagemap`: see the kernel's `admin-guide/mm/pagemap.rst`.
const FILE_PAGE: u64 = 1 << 61;
const SWAPPED: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;

/// Entries of `pagemap` that are read at once.
const ENTRIES: usize = 8192;

impl Private {
    /// Looks at a monitor, which maps all of this file.
    pub(super) fn of(monitor: u32, file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let text = fs::read_to_string(format!("/proc/{monitor}/maps"))?;
        let mappings: Vec<Mapping> = text.lines().filter_map(|line| mapping(line, metadata.ino())).collect();
        let mapped: u64 = mappings.iter().map(|mapping| mapping.end - mapping.start).sum();
        if mapped != metadata.len() {
            return Err(io::Error::other(format!("the monitor maps {mapped} bytes of {}", metadata.len())));
        }
        Self::at(monitor, mappings)
    }

    /// Looks at a monitor whose memory is there, in the order of the places.
    pub(super) fn at(monitor: u32, mappings: Vec<Mapping>) -> io::Result<Self> {
        let pagemap = File::open(format!("/proc/{monitor}/pagemap"))?;
        let memory = File::options().read(true).write(true).open(format!("/proc/{monitor}/mem"))?;
        Ok(Self { monitor, mappings, pagemap, memory })
    }

    /// The pages are a part of the monitor's anonymous memory.
    pub(super) fn largest(&self) -> io::Result<u64> {
        anonymous(self.monitor)
    }

    /// Reads all pages that are the monitor's own.
    pub(super) fn read(&self) -> io::Result<Pages> {
        let mut pages = Pages::default();
        self.each_run(is_own, |first, address, count| self.memory.read_exact_at(pages.extend(first, count), address))?;
        Ok(pages)
    }

    /// Finds runs of pages of a kind; calls `take` with the first page's place in the memory, its address, and their number.
    fn each_run(&self, kind: fn(u64) -> bool, mut take: impl FnMut(u64, u64, u64) -> io::Result<()>) -> io::Result<()> {
        self.mappings.iter().try_for_each(|mapping| self.each_run_of(mapping, kind, &mut take))
    }

    fn each_run_of(
        &self,
        mapping: &Mapping,
        kind: fn(u64) -> bool,
        take: &mut impl FnMut(u64, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let (first, last) = (mapping.start / PAGE, mapping.end / PAGE);
        let mut buffer = vec![0; ENTRIES * size_of::<u64>()];
        let mut at = first;
        while at < last {
            let count = usize::try_from(last - at).unwrap_or(ENTRIES).min(ENTRIES);
            let entries = &mut buffer[..count * size_of::<u64>()];
            self.pagemap.read_exact_at(entries, at * size_of::<u64>() as u64)?;
            for run in runs(entries, kind) {
                let address = (at + run.start as u64) * PAGE;
                let place = (address - mapping.start + mapping.offset) / PAGE;
                take(place, address, (run.end - run.start) as u64)?;
            }
            at += count as u64;
        }
        Ok(())
    }

    /// Finds runs of pages that are there: see [`Private::each_run`].
    pub(super) fn each_there(&self, take: impl FnMut(u64, u64, u64) -> io::Result<()>) -> io::Result<()> {
        self.each_run(is_there, take)
    }

    /// Reads bytes of pages that are there: others would be waited for.
    pub(super) fn read_at(&self, into: &mut [u8], address: u64) -> io::Result<()> {
        self.memory.read_exact_at(into, address)
    }

    /// Finds the pages that the machine has used, its own and the file's: first page and number of each part.
    pub(super) fn touched(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut parts: Vec<(u64, u64)> = Vec::new();
        self.each_run(is_there, |first, _, count| {
            match parts.last_mut() {
                Some((start, length)) if *start + *length == first => *length += count,
                _ => parts.push((first, count)),
            }
            Ok(())
        })?;
        parts.sort_unstable();
        Ok(parts)
    }

    /// Writes bytes at a place of the memory file; the pages become the monitor's own, the file does not change.
    pub(super) fn write(&self, place: u64, bytes: &[u8]) -> io::Result<()> {
        let end = place.checked_add(bytes.len() as u64);
        let within = |mapping: &&Mapping| {
            let size = mapping.end - mapping.start;
            place >= mapping.offset && end.is_some_and(|end| end <= mapping.offset + size)
        };
        let mapping = self.mappings.iter().find(within);
        let mapping = mapping.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a page beyond the memory"))?;
        self.memory.write_all_at(bytes, place - mapping.offset + mapping.start)
    }
}

/// Returns how much anonymous memory a process has, in bytes.
pub(super) fn anonymous(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let kib: u64 = ["RssAnon:", "VmSwap:", "HugetlbPages:"].into_iter().filter_map(field).sum();
    Ok(kib * 1024)
}

/// Reads a line of `/proc/PID/maps` if it is a private, writable mapping of the file with this number.
///
/// The device is not compared: on btrfs the kernel shows another one here than `stat` does. That the mappings are as
/// long as the file makes a mistake impossible.
fn mapping(line: &str, inode: u64) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = fields.next()?;
    let its_inode: u64 = fields.nth(1)?.parse().ok()?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let mapping = Mapping { start: number(start)?, end: number(end)?, offset: number(offset)? };
    (its_inode == inode && permissions.starts_with("rw-p")).then_some(mapping)
}

/// Whether a page is the machine's own: it is there and no page of the file.
fn is_own(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED) != 0 && entry & FILE_PAGE == 0
}

/// Whether a page was used.
fn is_there(entry: u64) -> bool {
    entry & (PRESENT | SWAPPED) != 0
}

/// The runs of pages of a kind.
fn runs(entries: &[u8], kind: fn(u64) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, entry) in entries.chunks_exact(size_of::<u64>()).enumerate() {
        let entry = u64::from_ne_bytes(entry.try_into().expect("chunks have this length"));
        if !kind(entry) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_mappings_of_the_file_count() {
        let line =
            |permissions: &str, inode: u64| format!("7f00-7f10 {permissions} 00002000 fe:00 {inode}   /x (deleted)");
        let found = Some(Mapping { start: 0x7f00, end: 0x7f10, offset: 0x2000 });
        assert_eq!(mapping(&line("rw-p", 42), 42), found);
        for other in [line("rw-s", 42), line("r--p", 42), line("rw-p", 41), "garbage".to_owned(), String::new()] {
            assert_eq!(mapping(&other, 42), None, "{other}");
        }
    }

    #[test]
    fn own_pages_are_those_that_are_there_and_not_of_the_file() {
        let entries = [0, PRESENT, SWAPPED, PRESENT | FILE_PAGE, PRESENT, 0, PRESENT];
        let bytes: Vec<u8> = entries.iter().flat_map(|entry: &u64| entry.to_ne_bytes()).collect();
        assert_eq!(runs(&bytes, is_own), [1..3, 4..5, 6..7]);
        assert_eq!(runs(&bytes, is_there), [1..5, 6..7]);
    }
}
