//! The reading end of a container's log: both files in order, then what is still being written.

use super::{CURRENT, Entry, PREVIOUS};
use crate::Error;
use jiff::Timestamp;
use rustix::fs::inotify;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    ready: VecDeque<Entry>,
    filter: Filter,
    changes: OwnedFd,
}

impl LogReader {
    /// Opens the log in a VM's directory. A log that is not there yet is empty.
    pub fn open(dir: &Path, filter: Filter) -> Result<Self, Error> {
        let changes =
            inotify::init(inotify::CreateFlags::CLOEXEC).map_err(|error| Error::file("watch", dir)(error.into()))?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE;
        let events = events | inotify::WatchFlags::MOVE | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&changes, dir, events).map_err(|error| Error::file("watch", dir)(error.into()))?;
        let file = open_if_there(&dir.join(PREVIOUS))?;
        let path = dir.join(CURRENT);
        let mut reader = Self { path, file, partial: Vec::new(), ready: VecDeque::new(), filter, changes };
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
        &self.changes
    }

    /// Waits until something in the directory changed since the last wait. Blocks.
    pub fn wait(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.changes, &mut buffer) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::file("watch", &self.path)(error.into())),
        }
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
        loop {
            let Some(file) = &mut self.file else {
                match open_if_there(&self.path)? {
                    Some(file) => self.file = Some(file),
                    None => return Ok(None),
                }
                continue;
            };
            file.read_until(b'\n', &mut self.partial).map_err(Error::file("read", &self.path))?;
            if self.partial.last() != Some(&b'\n') {
                if !self.follow_rotation()? {
                    return Ok(None);
                }
                continue;
            }
            self.partial.pop();
            let entry = Entry::parse(&self.partial);
            self.partial.clear();
            if entry.is_some() {
                return Ok(entry);
            }
        }
    }

    /// At the end of a file: goes on to the current one if this is another.
    fn follow_rotation(&mut self) -> Result<bool, Error> {
        let inode =
            |file: &File| file.metadata().map(|metadata| metadata.ino()).map_err(Error::file("inspect", &self.path));
        let (Some(open), Some(current)) = (&self.file, open_if_there(&self.path)?) else { return Ok(false) };
        if inode(open.get_ref())? == inode(current.get_ref())? {
            return Ok(false);
        }
        self.partial.clear();
        self.file = Some(current);
        Ok(true)
    }
}

fn open_if_there(path: &Path) -> Result<Option<BufReader<File>>, Error> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(64 << 10, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("open", path)(error)),
    }
}
