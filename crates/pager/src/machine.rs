//! One machine that is served: its events, one after the other, and between them what it will need soon.

use crate::backing::Backing;
use crate::contents::Bytes;
use crate::link::PULSE;
use crate::message::PAGE;
use crate::table::{Answer, Fill, Stray, Table};
use fcvm_sys::mapping::Part;
use fcvm_sys::userfaultfd::{Event, Placed, Stopped, Userfaultfd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// How much is put ahead between two looks for events, in bytes: a fault waits no longer than that takes.
const AHEAD: u64 = 512 << 10;

/// How long a thread that gives memory back may need to go on after its event was read. Only the next look waits for it.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// A machine that is served.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) uffd: Userfaultfd,
    /// Readable when the monitor has ended.
    pub(crate) monitor: OwnedFd,
    /// Readable when the owner has, or asks.
    pub(crate) owner: &'a UnixStream,
    pub(crate) table: Table,
    pub(crate) backing: &'a Backing,
    faults: VecDeque<u64>,
    /// What is put ahead, last part first.
    ahead: Vec<Range<u64>>,
    /// A huge page that is put together.
    page: Vec<u8>,
}

/// Why a machine cannot be served any longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// Events cannot be waited for or read.
    #[error("the events of the machine's memory cannot be read")]
    Events(#[source] io::Error),
    /// An event of an address that is none of the machine's.
    #[error(transparent)]
    Stray(#[from] Stray),
    /// An event that was not asked for.
    #[error("the machine's memory changed in a way that is not served (event {0:#x})")]
    Unexpected(u8),
    /// A page could not be put.
    #[error("a page at {address:#x} cannot be put into the machine's memory")]
    Page {
        /// Where.
        address: u64,
        /// Why.
        source: io::Error,
    },
}

/// How far something came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Done,
    /// There are events to be read first.
    Again,
    /// The machine is gone.
    Gone,
}

/// What there is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Events, perhaps.
    On,
    /// Nothing any more: monitor or owner have ended.
    Over,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        (uffd, monitor): (Userfaultfd, OwnedFd),
        owner: &'a UnixStream,
        table: Table,
        backing: &'a Backing,
    ) -> Self {
        let chunk = |part: &Range<u64>| {
            let end = part.end;
            (part.start..end).step_by(AHEAD as usize).map(move |start| start..end.min(start + AHEAD))
        };
        let mut ahead: Vec<_> = backing.working_set.iter().flat_map(chunk).collect();
        ahead.reverse();
        Self { uffd, monitor, owner, table, backing, faults: VecDeque::new(), ahead, page: Vec::new() }
    }

    /// Serves until the monitor or its owner ends.
    pub(crate) fn serve(mut self) -> Result<(), ServeError> {
        let mut again = Progress::Done;
        loop {
            let patience = match again {
                Progress::Again => Some(MOMENT),
                _ if self.ahead.is_empty() => None,
                _ => Some(Timespec::default()),
            };
            if self.look(patience)? == Look::Over {
                return Ok(());
            }
            self.hear()?;
            again = self.answer()?;
            if again == Progress::Done
                && let Some(part) = self.ahead.pop()
            {
                again = self.put_ahead(part)?;
            }
            if again == Progress::Gone {
                return Ok(());
            }
        }
    }

    /// Waits for something to happen, as long as is said.
    fn look(&self, patience: Option<Timespec>) -> Result<Look, ServeError> {
        let mut fds = [
            PollFd::new(&self.monitor, PollFlags::IN),
            PollFd::new(self.owner, PollFlags::IN),
            PollFd::new(&self.uffd, PollFlags::IN),
        ];
        match rustix::event::poll(&mut fds, patience.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Look::On),
            Err(error) => return Err(ServeError::Events(error.into())),
        }
        if !fds[0].revents().is_empty() || !fds[1].revents().is_empty() && !self.answers_owner() {
            return Ok(Look::Over);
        }
        if fds[2].revents().intersects(PollFlags::ERR | PollFlags::NVAL) {
            return Err(ServeError::Events(io::ErrorKind::InvalidInput.into()));
        }
        Ok(Look::On)
    }

    /// Answers an owner that asks whether this goes on; false if there is none. An answer that nobody fetches is left out.
    fn answers_owner(&self) -> bool {
        let mut asked = [0; 16];
        let answer =
            |count| rustix::net::send(self.owner, &[PULSE; 16][..count], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        let answered = match rustix::net::recv(self.owner, &mut asked, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok((count, _)) => answer(count).map(drop),
            Err(error) => Err(error),
        };
        matches!(answered, Ok(()) | Err(Errno::AGAIN | Errno::INTR))
    }

    /// Reads all events. What was given back counts before any fault, also before one that is older: a thread that gives
    /// memory back and one that uses it again are not in the order of their events.
    fn hear(&mut self) -> Result<(), ServeError> {
        let mut events = Vec::new();
        while self.uffd.read(&mut events).map_err(ServeError::Events)? > 0 {
            for event in events.drain(..) {
                match event {
                    Event::Fault(address) => self.faults.push_back(address),
                    Event::Removed { start, end } => self.table.removed(start, end),
                    Event::Other(kind) => return Err(ServeError::Unexpected(kind)),
                }
            }
        }
        Ok(())
    }

    /// Answers the faults that are known, as far as that goes.
    fn answer(&mut self) -> Result<Progress, ServeError> {
        while let Some(address) = self.faults.front().copied() {
            let progress = match self.table.fault(address, &self.backing.contents)? {
                Answer::Fill(fills) => self.put_all(&fills)?,
                Answer::Wake { start, length } => {
                    self.wake(start, length)?;
                    Progress::Done
                }
            };
            if progress != Progress::Done {
                return Ok(progress);
            }
            self.faults.pop_front();
        }
        Ok(Progress::Done)
    }

    fn put_ahead(&mut self, part: Range<u64>) -> Result<Progress, ServeError> {
        let fills = self.table.missing(&part, &self.backing.contents);
        let progress = self.put_all(&fills)?;
        if progress == Progress::Again {
            self.ahead.push(part);
        }
        Ok(progress)
    }

    fn put_all(&mut self, fills: &[Fill]) -> Result<Progress, ServeError> {
        for fill in fills {
            match self.put(fill)? {
                Progress::Done => {}
                other => return Ok(other),
            }
        }
        Ok(Progress::Done)
    }

    fn put(&mut self, fill: &Fill) -> Result<Progress, ServeError> {
        let whole = fill.length();
        let failed = |address, source| ServeError::Page { address, source };
        let mut done = 0;
        while done < whole {
            let (to, backing) = (fill.to + done, self.backing);
            let placed = match fill.pieces.as_slice() {
                [piece] if piece.bytes == Bytes::Zero && fill.page_size == PAGE => self.uffd.zero(to, whole - done),
                [piece] if piece.bytes != Bytes::Zero => {
                    let cut = || failed(to, io::ErrorKind::UnexpectedEof.into());
                    self.uffd.copy(to, backing.part(piece).ok_or_else(cut)?.after(done))
                }
                pieces => {
                    self.page.resize(usize::try_from(whole).unwrap_or(usize::MAX), 0);
                    backing.read(pieces, &mut self.page).map_err(|source| failed(to, source))?;
                    self.uffd.copy(to, Part::from(&self.page[..]).after(done))
                }
            };
            let Placed { bytes, stopped } = placed;
            self.table.placed(to, bytes);
            done += bytes;
            match stopped {
                None => {}
                Some(Stopped::Again) if bytes > 0 => {}
                Some(Stopped::Again) => return Ok(Progress::Again),
                Some(Stopped::Exists) => {
                    self.table.placed(fill.to + done, fill.page_size);
                    self.wake(fill.to + done, fill.page_size)?;
                    done += fill.page_size;
                }
                Some(Stopped::Gone) => return Ok(Progress::Gone),
                Some(Stopped::Failed(source)) => return Err(failed(fill.to + done, source)),
            }
        }
        Ok(Progress::Done)
    }

    fn wake(&self, start: u64, length: u64) -> Result<(), ServeError> {
        match self.uffd.wake(start, length) {
            Err(error) if error.raw_os_error() != Some(Errno::SRCH.raw_os_error()) => {
                Err(ServeError::Page { address: start, source: error })
            }
            _ => Ok(()),
        }
    }
}
