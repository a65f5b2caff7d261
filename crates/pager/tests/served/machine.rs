//! Snapshots, servers and machines to try them with.

use fcvm_pager::{Backing, Link, LinkError, Order, Overlay, Region, serve};
use fcvm_sys::mapping::{Anonymous, HUGE_PAGE, PageSize};
use fcvm_sys::userfaultfd::Userfaultfd;
use rustix::process::{Pid, PidfdFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

pub(crate) const PAGE: u64 = 4096;

/// A snapshot of so many pages: page `n` holds the byte `value(n)`, that of every tenth is in another file, and every
/// seventh is nowhere.
pub(crate) struct Snapshot {
    pub(crate) memory: File,
    pub(crate) overlay: File,
    pub(crate) order: Order,
}

pub(crate) fn value(page: u64) -> u8 {
    if page % 10 == 3 {
        200 + (page % 50) as u8
    } else if page.is_multiple_of(7) {
        0
    } else {
        1 + (page % 190) as u8
    }
}

impl Snapshot {
    pub(crate) fn new(pages: u64) -> Self {
        let (memory, overlay) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        memory.set_len(pages * PAGE).unwrap();
        let mut order = Order::default();
        for page in 0..pages {
            let bytes = [value(page); PAGE as usize];
            if page % 10 == 3 {
                // As in the files of fcvm, at no page's beginning.
                let place = 24 + order.overlays.len() as u64 * PAGE;
                overlay.write_all_at(&bytes, place).unwrap();
                order.overlays.push(Overlay { start: page * PAGE, length: PAGE, place });
            } else if !page.is_multiple_of(7) {
                memory.write_all_at(&bytes, page * PAGE).unwrap();
            }
        }
        Self { memory, overlay, order }
    }
}

/// A server in a thread of this process; it ends with its last machine.
pub(crate) struct Server {
    pub(crate) socket: PathBuf,
    _dir: tempfile::TempDir,
    listener: UnixListener,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let (memory, overlay) = (snapshot.memory.try_clone().unwrap(), snapshot.overlay.try_clone().unwrap());
        let backing = Backing::open(&snapshot.order, memory, Some(overlay)).unwrap();
        let served = listener.try_clone().unwrap();
        let thread = std::thread::spawn(move || serve(&served, &backing).unwrap());
        Self { socket, _dir: dir, listener, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok());
    }
}

/// Memory that waits for its pages, in two regions of which the second one is lower.
pub(crate) struct Machine {
    pub(crate) memory: Anonymous,
    uffd: Userfaultfd,
    page_size: u64,
}

impl Machine {
    pub(crate) fn new(pages: u64) -> Self {
        Self::with(Anonymous::new(pages * PAGE, PageSize::Base).unwrap(), PAGE)
    }

    /// Fails where the host has no huge pages to spare.
    pub(crate) fn huge(pages: u64) -> io::Result<Self> {
        Ok(Self::with(Anonymous::new(pages * HUGE_PAGE, PageSize::Huge)?, HUGE_PAGE))
    }

    fn with(memory: Anonymous, page_size: u64) -> Self {
        let uffd = Userfaultfd::new().unwrap();
        uffd.register(&memory).unwrap();
        Self { memory, uffd, page_size }
    }

    /// The two halves, of which the first comes last in the memory.
    fn regions(&self) -> Vec<Region> {
        let (start, half, page_size) = (self.memory.address(), self.memory.length() / 2, self.page_size);
        let region = |start, offset| Region { start, size: half, offset, page_size };
        vec![region(start + half, 0), region(start, half)]
    }

    /// The address, from the memory's beginning, of a place of the snapshot.
    pub(crate) fn at(&self, place: u64) -> u64 {
        (place + self.memory.length() / 2) % self.memory.length()
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        serde_json::to_vec(&self.regions()).unwrap()
    }

    pub(crate) fn hand_over(&self, server: &Path) -> Result<Link, LinkError> {
        self.hand_over_as(server, &own_pidfd())
    }

    pub(crate) fn hand_over_as(&self, server: &Path, monitor: &OwnedFd) -> Result<Link, LinkError> {
        Link::hand_over(server, &self.message(), self.uffd.as_fd(), monitor.as_fd())
    }

    /// Reads a byte of a page of the snapshot.
    pub(crate) fn read(&self, page: u64) -> u8 {
        self.memory.read(self.at(page * PAGE) + page % PAGE)
    }
}

pub(crate) fn pidfd(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

pub(crate) fn own_pidfd() -> OwnedFd {
    pidfd(std::process::id())
}
