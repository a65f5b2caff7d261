//! All of a memory file, copied while it is written to: once while the machine runs, and once more, while it is
//! paused, only what has changed since.
//!
//! What changed is found by comparing. That needs no support of the kernel and no rights over the monitor, and reads
//! memory several times faster than a file can be written.

use super::PAGE;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::thread;

/// Bytes that are compared or copied at once: two of it stay in a processor's cache.
const CHUNK: u64 = 128 << 10;

/// A copy of a memory file in the making.
#[derive(Debug)]
pub struct Whole {
    source: File,
    size: u64,
}

impl Whole {
    pub(crate) fn of(source: File) -> io::Result<Self> {
        let size = source.metadata()?.len();
        Ok(Self { source, size })
    }

    pub(super) fn largest(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::blocks(&self.source.metadata()?) * 512)
    }

    /// Copies what is there into an empty file while the machine runs.
    pub fn ahead(&self, into: &File) -> io::Result<()> {
        into.set_len(self.size)?;
        self.in_parallel(&data(&self.source, self.size)?, |range, buffers| {
            let bytes = buffers.fill_first(&self.source, range)?;
            for run in runs(bytes, |page| !is_zero(page)) {
                into.write_all_at(&bytes[run.clone()], range.start + run.start as u64)?;
            }
            Ok(())
        })
    }

    /// Copies what differs, of a machine that is paused. Afterwards the copy is the memory.
    pub fn finish(&self, into: &File) -> io::Result<()> {
        let both = union(data(&self.source, self.size)?, data(into, self.size)?);
        self.in_parallel(&both, |range, buffers| {
            let (new, old) = buffers.fill(&self.source, into, range)?;
            if new == old {
                return Ok(());
            }
            for page in (0..new.len()).step_by(PAGE as usize) {
                let place = page..page + PAGE as usize;
                if new[place.clone()] != old[place.clone()] {
                    into.write_all_at(&new[place], range.start + page as u64)?;
                }
            }
            Ok(())
        })
    }

    /// Works on ranges with one thread for each processor.
    fn in_parallel(
        &self,
        ranges: &[Range<u64>],
        work: impl Fn(&Range<u64>, &mut Buffers) -> io::Result<()> + Sync,
    ) -> io::Result<()> {
        let chunks: Vec<Range<u64>> = ranges.iter().flat_map(chunks).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from).min(4);
        let share = chunks.len().div_ceil(threads).max(1);
        thread::scope(|scope| {
            let work = &work;
            let run = |part: &[Range<u64>]| {
                let mut buffers = Buffers::new();
                part.iter().try_for_each(|range| work(range, &mut buffers))
            };
            let workers: Vec<_> = chunks.chunks(share).map(|part| scope.spawn(move || run(part))).collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("a copying thread does not panic"))
        })
    }
}

struct Buffers {
    first: Vec<u8>,
    second: Vec<u8>,
}

impl Buffers {
    fn new() -> Self {
        Self { first: vec![0; CHUNK as usize], second: vec![0; CHUNK as usize] }
    }

    fn fill_first(&mut self, file: &File, range: &Range<u64>) -> io::Result<&[u8]> {
        fill(&mut self.first, file, range)
    }

    fn fill(&mut self, one: &File, other: &File, range: &Range<u64>) -> io::Result<(&[u8], &[u8])> {
        Ok((fill(&mut self.first, one, range)?, fill(&mut self.second, other, range)?))
    }
}

fn fill<'a>(buffer: &'a mut [u8], file: &File, range: &Range<u64>) -> io::Result<&'a [u8]> {
    let bytes = &mut buffer[..usize::try_from(range.end - range.start).expect("a chunk is small")];
    file.read_exact_at(bytes, range.start)?;
    Ok(bytes)
}

fn chunks(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let end = range.end;
    (range.start..end).step_by(CHUNK as usize).map(move |start| start..end.min(start + CHUNK))
}

/// The parts of a file that are no holes, in whole pages.
fn data(file: &File, size: u64) -> io::Result<Vec<Range<u64>>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start / PAGE * PAGE,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.next_multiple_of(PAGE).min(size);
        parts.push(start.max(at)..end);
        at = end;
    }
    Ok(parts)
}

/// The parts that are in either list. Both are sorted.
fn union(one: Vec<Range<u64>>, other: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut all = [one, other].concat();
    all.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in all {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|byte| *byte == 0)
}

/// The runs of pages for which `wanted` holds, as places in `bytes`.
fn runs(bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, page) in bytes.chunks(PAGE as usize).enumerate() {
        let start = index * PAGE as usize;
        if !wanted(page) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == start => run.end += page.len(),
            _ => runs.push(start..start + page.len()),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const SIZE: u64 = 64 << 20;

    fn memory() -> File {
        File::from(fcvm_sys::memfd::create("test", SIZE).unwrap())
    }

    fn read(file: &File, place: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        file.read_exact_at(&mut bytes, place).unwrap();
        bytes
    }

    #[test]
    fn a_copy_is_the_memory_of_the_moment_in_which_it_was_finished() {
        let (source, into) = (memory(), tempfile::tempfile().unwrap());
        let page = |byte: u8| vec![byte; PAGE as usize];
        for (place, byte) in [(0, 1), (5 * PAGE, 2), (6 * PAGE, 3), (SIZE - PAGE, 4)] {
            source.write_all_at(&page(byte), place).unwrap();
        }
        source.write_all_at(&page(0), 9 * PAGE).unwrap();
        let whole = Whole::of(source.try_clone().unwrap()).unwrap();
        whole.ahead(&into).unwrap();
        source.write_all_at(&page(7), 5 * PAGE).unwrap();
        source.write_all_at(&page(0), 6 * PAGE).unwrap();
        source.write_all_at(&page(8), 1000 * PAGE).unwrap();
        whole.finish(&into).unwrap();
        for (place, byte) in [(0, 1), (5 * PAGE, 7), (6 * PAGE, 0), (9 * PAGE, 0), (1000 * PAGE, 8), (SIZE - PAGE, 4)] {
            assert_eq!(read(&into, place), page(byte), "at {place}");
        }
        assert_eq!(into.metadata().unwrap().len(), SIZE);
        assert!(into.metadata().unwrap().blocks() * 512 < SIZE / 8, "zero pages are holes");
    }

    #[test]
    fn what_the_guest_gave_back_reads_as_zeros_in_the_copy() {
        let (source, into) = (memory(), tempfile::tempfile().unwrap());
        source.write_all_at(&[5; 3 * PAGE as usize], 0).unwrap();
        let whole = Whole::of(source.try_clone().unwrap()).unwrap();
        whole.ahead(&into).unwrap();
        let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&source, punch, PAGE, PAGE).unwrap();
        whole.finish(&into).unwrap();
        assert_eq!([0, PAGE, 2 * PAGE].map(|place| read(&into, place)[0]), [5, 0, 5]);
    }

    #[test]
    fn parts_of_two_lists_are_joined() {
        assert_eq!(union(vec![0..4, 8..9], vec![2..6, 9..12, 20..21]), [0..6, 8..12, 20..21]);
    }
}
