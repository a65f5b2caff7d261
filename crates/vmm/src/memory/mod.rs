//! A guest's memory, and copies of it while the guest runs.
//!
//! ```text
//! Own      booted    the memory is a file of its own     copy: all of it, most of it ahead of the pause   [whole]
//! Private  restored  the monitor maps a saved file       copy: the pages that are the machine's own       [private]
//!                    privately; the file never changes   and the saved file by reference
//! Served   restored  a server brings the monitor's pages  copy: those that differ from the saved file's     [served]
//! Monitors booted    the monitor's own, who knows where  copy: all of it, by the monitor, during the pause
//! ```
//!
//! A file that machines map is never written again: each copy is a new file. The pages of a machine that was restored
//! from a memory file *and* pages are all its own, so what it saves goes with the memory file alone: there are no chains.

mod compare;
mod pages;
mod private;
mod served;
mod whole;

pub use compare::{Differing, SavedMemory};
pub use pages::{Pages, parts};
pub use whole::Whole;

use private::Private;
pub(crate) use served::Origin;
use served::Served;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A page of the guest, in bytes: that of x86_64, and of aarch64 as Debian builds it.
pub const PAGE: u64 = 4096;

/// The memory of a machine.
#[derive(Debug)]
pub(crate) enum Memory {
    /// A memory file that the monitor shares with its owner.
    Own(OwnedFd),
    /// The file of a saved machine, which the monitor maps privately.
    Private(OwnedFd),
    /// Memory of the monitor, whose pages a server brings from the files of a saved machine.
    Served(Origin),
    /// Memory of the monitor that nobody else can find.
    Monitors,
}

impl Memory {
    /// Begins a copy of the memory of the monitor with this number.
    pub(crate) fn copy(&self, monitor: u32) -> io::Result<MemoryCopy> {
        Ok(match self {
            Self::Own(file) => MemoryCopy::Whole(Whole::of(file.try_clone()?.into())?),
            Self::Private(file) => MemoryCopy::pages(Own::Private(Private::of(monitor, &file.try_clone()?.into())?)),
            Self::Served(origin) => MemoryCopy::pages(Own::Served(Served::of(monitor, origin.try_clone()?)?)),
            Self::Monitors => MemoryCopy::Monitors { largest: private::anonymous(monitor)? },
        })
    }

    /// The pages that a restored machine has used: first page and number of each part; nothing of another machine.
    pub(crate) fn touched(&self, monitor: u32) -> io::Result<Vec<(u64, u64)>> {
        match self {
            Self::Own(_) | Self::Monitors => Ok(Vec::new()),
            Self::Private(file) => Private::of(monitor, &file.try_clone()?.into())?.touched(),
            Self::Served(origin) => Served::of(monitor, origin.try_clone()?)?.touched(),
        }
    }

    /// Puts saved pages into the memory of a machine that does not run yet.
    pub(crate) fn overwrite(&self, monitor: u32, pages: &Path) -> io::Result<()> {
        let Self::Private(file) = self else { return Err(io::ErrorKind::InvalidInput.into()) };
        let memory = Private::of(monitor, &file.try_clone()?.into())?;
        Pages::read_each(&mut io::BufReader::new(File::open(pages)?), |start, bytes| memory.write(start, bytes))
    }
}

/// A copy of a machine's memory in the making. All of it blocks.
#[derive(Debug)]
pub enum MemoryCopy {
    /// Everything, into a file.
    Whole(Whole),
    /// The pages that are the machine's own; the rest is in the file that it was restored from.
    Pages(PagesCopy),
    /// Everything, by the monitor, when it saves the devices: see [`crate::Machine::saved_memory`].
    Monitors {
        /// How many bytes that may take.
        largest: u64,
    },
}

impl MemoryCopy {
    fn pages(own: Own) -> Self {
        Self::Pages(PagesCopy(own))
    }

    /// How many bytes the copy may take at most.
    pub fn largest(&self) -> io::Result<u64> {
        match self {
            Self::Whole(whole) => whole.largest(),
            Self::Pages(PagesCopy(Own::Private(private))) => private.largest(),
            Self::Pages(PagesCopy(Own::Served(served))) => served.largest(),
            Self::Monitors { largest } => Ok(*largest),
        }
    }
}

/// See [`MemoryCopy::Pages`].
#[derive(Debug)]
pub struct PagesCopy(Own);

/// How a machine's own pages are found.
#[derive(Debug)]
enum Own {
    Private(Private),
    Served(Served),
}

impl PagesCopy {
    /// Takes the pages of a machine that is paused.
    pub fn take(self) -> io::Result<Pages> {
        match self.0 {
            Own::Private(private) => private.read(),
            Own::Served(served) => served.read(),
        }
    }
}
