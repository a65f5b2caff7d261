//! The reading end of a container's log: both files in order, then what is still being written.

use super::{CURRENT, Entry, Lines, PREVIOUS};
use crate::{Error, Watch};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Which entries are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// None before this time.
    pub since: Option<Timestamp>,
    /// None after this time.
    pub until: Option<Timestamp>,
    /// Of what is there at the start, only so many lines.
    pub tail: Option<usize>,
}

/// Reads a log from its beginning, and on as it grows.
#[derive(Debug)]
pub struct LogReader {
    lines: Lines,
    ready: VecDeque<Entry>,
    filter: Filter,
}

impl LogReader {
    /// Opens the log in a VM's directory. A log that is not there yet is empty.
    pub fn open(dir: &Path, filter: Filter) -> Result<Self, Error> {
        let lines = Lines::open(dir, CURRENT, PREVIOUS)?;
        let mut reader = Self { lines, ready: VecDeque::new(), filter };
        if let Some(lines) = filter.tail {
            reader.keep_last(lines)?;
        }
        Ok(reader)
    }

    /// Returns the next entry, or none where the log ends for now.
    pub fn read_entry(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.ready.pop_front() {
            return Ok(Some(entry));
        }
        while let Some(entry) = self.read()? {
            let early = self.filter.since.is_some_and(|since| entry.at < since);
            let late = self.filter.until.is_some_and(|until| entry.at > until);
            if !early && !late {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The descriptor that becomes readable when something in the directory changed.
    pub fn changes(&self) -> &OwnedFd {
        self.lines.changes()
    }

    /// Waits until something in the directory of one of these changed since the last wait. Blocks.
    pub fn wait_for_any<'r>(readers: impl IntoIterator<Item = &'r Self>) -> Result<(), Error> {
        let watches: Vec<&Watch> = readers.into_iter().map(|reader| reader.lines.watch()).collect();
        Watch::wait_for_any(&watches, None)
    }

    fn keep_last(&mut self, lines: usize) -> Result<(), Error> {
        let mut kept = VecDeque::new();
        let mut ends = 0;
        while let Some(entry) = self.read_entry()? {
            ends += usize::from(entry.ends_line());
            kept.push_back(entry);
            let open = usize::from(kept.back().is_some_and(|last: &Entry| !last.ends_line()));
            while ends + open > lines {
                let Some(dropped) = kept.pop_front() else { break };
                ends -= usize::from(dropped.ends_line());
                if lines == 0 && kept.is_empty() {
                    break;
                }
            }
        }
        self.ready = kept;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Entry>, Error> {
        while let Some(line) = self.lines.read()? {
            let entry = Entry::parse(line);
            if entry.is_some() {
                return Ok(entry);
            }
        }
        Ok(None)
    }
}
