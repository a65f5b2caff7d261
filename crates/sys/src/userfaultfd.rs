//! Pages that one process fills for another: `userfaultfd(2)`.
//!
//! A process that touches a page which is not there waits until whoever has the descriptor has put it there. Layouts and
//! numbers are those of `linux/userfaultfd.h`. While a range is being given back, and until the event of it was read,
//! every order to put a page is refused with `EAGAIN`.

use crate::mapping::{Anonymous, Part};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

const API: u64 = 0xaa;
const IOC_NEW: libc::Ioctl = request(0xaa00);
const IOC_API: libc::Ioctl = request(0xc018_aa3f);
const IOC_REGISTER: libc::Ioctl = request(0xc020_aa00);
const IOC_WAKE: libc::Ioctl = request(0x8010_aa02);
const IOC_COPY: libc::Ioctl = request(0xc028_aa03);
const IOC_ZEROPAGE: libc::Ioctl = request(0xc020_aa04);

/// The number of a request; its type differs by the C library, and the upper half of it is negative in musl's.
const fn request(number: u32) -> libc::Ioctl {
    number as libc::Ioctl
}

/// The requests of one that fills the memory of others.
pub const REQUESTS: [u32; 4] = [IOC_API as u32, IOC_WAKE as u32, IOC_COPY as u32, IOC_ZEROPAGE as u32];

/// Events of ranges that are given back.
const EVENT_REMOVE: u64 = 1 << 3;
const MODE_MISSING: u64 = 1;

const PAGE_FAULT: u8 = 0x12;
const FORK: u8 = 0x13;
const REMOVE: u8 = 0x15;

/// Events that are read at once.
const BATCH: usize = 64;
/// The size of `struct uffd_msg`.
const MESSAGE: usize = 32;

/// What makes the descriptors, where the kernel has such a device and this user may open it.
const DEVICE: &str = "/dev/userfaultfd";

/// `struct uffdio_api`.
#[repr(C)]
struct ApiOrder {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_range`.
#[repr(C)]
struct Range {
    start: u64,
    length: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct RegisterOrder {
    range: Range,
    mode: u64,
    ioctls: u64,
}

/// `struct uffdio_copy`.
#[repr(C)]
struct CopyOrder {
    to: u64,
    from: u64,
    length: u64,
    mode: u64,
    done: i64,
}

/// `struct uffdio_zeropage`.
#[repr(C)]
struct ZeroOrder {
    range: Range,
    mode: u64,
    done: i64,
}

/// The descriptor by which the pages of a process are filled.
#[derive(Debug)]
pub struct Userfaultfd(OwnedFd);

/// What happened in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A thread waits for the page at this address.
    Fault(u64),
    /// What was in this range is gone.
    Removed {
        /// The first address.
        start: u64,
        /// The one behind the last.
        end: u64,
    },
    /// Something that was not asked for, by its number.
    Other(u8),
}

/// How far an order came.
#[derive(Debug)]
pub struct Placed {
    /// How many bytes are there now, and those who waited for them go on.
    pub bytes: u64,
    /// Why there are no more; none if that is all.
    pub stopped: Option<Stopped>,
}

/// Why an order stopped.
#[derive(Debug)]
pub enum Stopped {
    /// There are events to be read first; or the rest is for another order.
    Again,
    /// The next page is there already.
    Exists,
    /// The process is gone.
    Gone,
    /// It cannot be done.
    Failed(io::Error),
}

impl Userfaultfd {
    /// Makes one for this process, which hears of faults and of what is given back.
    pub fn new() -> io::Result<Self> {
        let made = Self(Self::open()?);
        let mut order = ApiOrder { api: API, features: EVENT_REMOVE, ioctls: 0 };
        made.ioctl(IOC_API, &mut order)?;
        Ok(made)
    }

    fn open() -> io::Result<OwnedFd> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        let made = match File::options().read(true).write(true).open(DEVICE) {
            // SAFETY: this request takes a number.
            Ok(device) => unsafe { libc::ioctl(device.as_raw_fd(), IOC_NEW, flags) },
            // SAFETY: this call takes a number.
            Err(_) => unsafe { libc::syscall(libc::SYS_userfaultfd, flags) as libc::c_int },
        };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(made) })
    }

    /// Takes one that another process has made, if it is one.
    pub fn received(fd: OwnedFd) -> io::Result<Self> {
        let name = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        if name.as_os_str() != "anon_inode:[userfaultfd]" {
            let reason = format!("{} is no userfaultfd", name.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        // One that blocks cannot be polled.
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | rustix::fs::OFlags::NONBLOCK)?;
        Ok(Self(fd))
    }

    /// Has pages of this process's memory filled by this descriptor.
    pub fn register(&self, memory: &Anonymous) -> io::Result<()> {
        let range = Range { start: memory.address(), length: memory.length() };
        self.ioctl(IOC_REGISTER, &mut RegisterOrder { range, mode: MODE_MISSING, ioctls: 0 })
    }

    /// Reads the events that are there, up to a number; adds none if there are none.
    pub fn read(&self, events: &mut Vec<Event>) -> io::Result<usize> {
        let mut buffer = [0; BATCH * MESSAGE];
        let count = match rustix::io::read(&self.0, &mut buffer) {
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let messages = buffer[..count].chunks_exact(MESSAGE);
        let read = messages.len();
        events.extend(messages.map(event));
        Ok(read)
    }

    /// Puts bytes at an address of the process; whole pages, none of which is there.
    pub fn copy(&self, to: u64, from: Part<'_>) -> Placed {
        let mut order = CopyOrder { to, from: from.address(), length: from.length(), mode: 0, done: 0 };
        let outcome = self.ioctl(IOC_COPY, &mut order);
        placed(outcome, order.done, from.length())
    }

    /// Puts zeros there. Huge pages cannot be had this way.
    pub fn zero(&self, to: u64, length: u64) -> Placed {
        let mut order = ZeroOrder { range: Range { start: to, length }, mode: 0, done: 0 };
        let outcome = self.ioctl(IOC_ZEROPAGE, &mut order);
        placed(outcome, order.done, length)
    }

    /// Lets those go on who wait for pages that are there.
    pub fn wake(&self, start: u64, length: u64) -> io::Result<()> {
        self.ioctl(IOC_WAKE, &mut Range { start, length })
    }

    fn ioctl<T>(&self, request: libc::Ioctl, order: &mut T) -> io::Result<()> {
        // SAFETY: every caller gives the structure of its request, which outlives the call. Memory is written only where
        // it was registered, that is in pages that are not there yet: no reference to such can exist. On another
        // descriptor the kernel answers with an error.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request, ptr::from_mut(order)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn placed(outcome: io::Result<()>, done: i64, length: u64) -> Placed {
    let bytes = u64::try_from(done).unwrap_or(0).min(length);
    let stopped = outcome.err().map(|error| match error.raw_os_error() {
        Some(libc::EAGAIN) => Stopped::Again,
        Some(libc::EEXIST) => Stopped::Exists,
        Some(libc::ESRCH) => Stopped::Gone,
        _ => Stopped::Failed(error),
    });
    Placed { bytes, stopped }
}

/// Reads a `struct uffd_msg`: the kind, seven bytes of nothing, and what belongs to the kind.
fn event(message: &[u8]) -> Event {
    let number = |at: usize| u64::from_ne_bytes(message[at..at + 8].try_into().expect("eight bytes"));
    match message[0] {
        PAGE_FAULT => Event::Fault(number(16)),
        REMOVE => Event::Removed { start: number(8), end: number(16) },
        FORK => {
            // The kernel has given us the child's descriptor with it.
            let fd = RawFd::from_ne_bytes(message[8..12].try_into().expect("four bytes"));
            // SAFETY: reading the event made this descriptor, and nobody else knows its number.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Event::Other(FORK)
        }
        other => Event::Other(other),
    }
}

impl AsFd for Userfaultfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Userfaultfd> for OwnedFd {
    fn from(this: Userfaultfd) -> Self {
        this.0
    }
}

#[cfg(test)]
mod tests;
