//! Memory that is mapped for the kernel's sake: files that it copies from, and memory whose pages another process fills.
//!
//! A mapped file is never read through its address: one that someone cuts short would end this process with a signal,
//! where a system call that copies from it only fails.

use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ptr;

/// A page of memory whose pages are two megabytes, in bytes.
pub const HUGE_PAGE: u64 = 2 << 20;

/// A file, mapped to be read by the kernel.
#[derive(Debug)]
pub struct MappedFile {
    area: Area,
}

/// Bytes that a system call may read.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    address: u64,
    length: u64,
    lives: PhantomData<&'a [u8]>,
}

/// Private memory without a file, whose pages come into being as they are touched.
#[derive(Debug)]
pub struct Anonymous {
    area: Area,
}

/// The size of an [`Anonymous`]'s pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// The usual one.
    Base,
    /// Two megabytes, of the host's reserve.
    Huge,
}

/// A mapping that ends with this.
#[derive(Debug)]
struct Area {
    start: *mut u8,
    length: usize,
}

// SAFETY: an area is a number and a length; all access to it goes through system calls or volatile reads and writes.
unsafe impl Send for Area {}
// SAFETY: as above; nothing is reached through a shared reference but by volatile access of single bytes.
unsafe impl Sync for Area {}

impl MappedFile {
    /// Maps the first bytes of a file, at least one.
    pub fn of(file: &File, length: u64) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        // SAFETY: the kernel chooses the address, so no mapping of ours is replaced; the memory is never dereferenced.
        let start = unsafe { rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0) }?;
        Ok(Self { area: Area { start: start.cast(), length } })
    }

    /// Returns a part of it, if it has that.
    pub fn part(&self, place: u64, length: u64) -> Option<Part<'_>> {
        let end = place.checked_add(length)?;
        let whole = self.area.length as u64;
        (end <= whole).then(|| Part { address: self.area.address() + place, length, lives: PhantomData })
    }
}

impl<'a> From<&'a [u8]> for Part<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { address: bytes.as_ptr().expose_provenance() as u64, length: bytes.len() as u64, lives: PhantomData }
    }
}

impl Part<'_> {
    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// What follows after so many bytes.
    #[must_use]
    pub fn after(self, bytes: u64) -> Self {
        let gone = bytes.min(self.length);
        Self { address: self.address + gone, length: self.length - gone, ..self }
    }
}

impl Anonymous {
    /// Maps memory. Huge pages are taken from the host's reserve, which is an error where it has too few.
    pub fn new(length: u64, pages: PageSize) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let flags = match pages {
            PageSize::Base => MapFlags::PRIVATE,
            PageSize::Huge => MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB,
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so no mapping of ours is replaced.
        let start = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), length, protection, flags) }?;
        Ok(Self { area: Area { start: start.cast(), length } })
    }

    /// Where it is.
    pub fn address(&self) -> u64 {
        self.area.address()
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.area.length as u64
    }

    /// Reads a byte. Blocks as long as whoever fills its page takes.
    ///
    /// # Panics
    /// If it has no such byte.
    pub fn read(&self, place: u64) -> u8 {
        let at = self.area.at(place);
        // SAFETY: the place is inside the mapping, which is readable and lives as long as this.
        unsafe { at.read_volatile() }
    }

    /// Writes a byte, as [`Anonymous::read`] reads one.
    ///
    /// # Panics
    /// If it has no such byte.
    pub fn write(&self, place: u64, byte: u8) {
        let at = self.area.at(place);
        // SAFETY: the place is inside the mapping, which is writable and lives as long as this.
        unsafe { at.write_volatile(byte) }
    }

    /// Tells whether the page of a byte is there, without touching it.
    ///
    /// # Panics
    /// If it has no such byte.
    pub fn has(&self, place: u64) -> io::Result<bool> {
        const PAGE: u64 = 4096;
        const THERE: u64 = 0b11 << 62;
        let at = self.area.at(place).expose_provenance() as u64;
        let mut entry = [0; size_of::<u64>()];
        let pagemap = File::open("/proc/self/pagemap")?;
        std::os::unix::fs::FileExt::read_exact_at(&pagemap, &mut entry, at / PAGE * size_of::<u64>() as u64)?;
        Ok(u64::from_ne_bytes(entry) & THERE != 0)
    }

    /// Gives pages back: what is read there next is new. Blocks until whoever fills pages has heard of it.
    ///
    /// # Panics
    /// If it has no such part.
    pub fn discard(&self, place: u64, length: u64) -> io::Result<()> {
        let last = place.checked_add(length).expect("a part of the memory");
        assert!(last <= self.length(), "a part of the memory");
        let start = self.area.start.wrapping_add(place as usize);
        // SAFETY: the range is inside the mapping, whose bytes nobody holds a reference to.
        Ok(unsafe { rustix::mm::madvise(start.cast(), length as usize, Advice::LinuxDontNeed) }?)
    }
}

impl Area {
    fn address(&self) -> u64 {
        self.start.expose_provenance() as u64
    }

    fn at(&self, place: u64) -> *mut u8 {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        assert!(place < self.length, "a byte of the memory");
        self.start.wrapping_add(place)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own and whole; parts of it borrow what owns this, so none is left.
        let unmapped = unsafe { rustix::mm::munmap(self.start.cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_parts_that_are_inside() {
        let file = File::from(crate::memfd::create("test", 8192).unwrap());
        let mapped = MappedFile::of(&file, 8192).unwrap();
        let part = mapped.part(4096, 4096).unwrap();
        assert_eq!(part.after(4000).length(), 96);
        assert_eq!(part.after(5000).length(), 0);
        for (place, length) in [(1, 8192), (8192, 1), (u64::MAX, 2)] {
            assert!(mapped.part(place, length).is_none(), "{place} {length}");
        }
    }

    #[test]
    fn what_is_given_back_reads_as_new() {
        let memory = Anonymous::new(8192, PageSize::Base).unwrap();
        memory.write(5000, 7);
        assert_eq!((memory.read(5000), memory.read(1)), (7, 0));
        memory.discard(4096, 4096).unwrap();
        assert_eq!(memory.read(5000), 0);
    }
}
