//! Lines of two files, of which one takes the other's place when it is full: in order, and on as they are written.

use crate::{Error, Watch};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads lines from the beginning of the older file, and on as the newer one grows.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: Option<BufReader<File>>,
    /// The beginning of a line whose end is not written yet, or the line that was given last.
    line: Vec<u8>,
    given: bool,
    watch: Watch,
}

impl Lines {
    /// Opens the files in a directory. One that is not there yet is empty.
    pub(crate) fn open(dir: &Path, current: &str, previous: &str) -> Result<Self, Error> {
        let watch = Watch::on(dir)?;
        let file = open_if_there(&dir.join(previous))?;
        Ok(Self { path: dir.join(current), file, line: Vec::new(), given: false, watch })
    }

    /// The descriptor that becomes readable when something in the directory changed.
    pub(crate) fn changes(&self) -> &OwnedFd {
        self.watch.changes()
    }

    /// What tells of changes in the directory.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Waits until something in the directory changed since the last wait, so long at most if there is a limit. Blocks.
    pub(crate) fn wait(&self, limit: Option<Duration>) -> Result<(), Error> {
        self.watch.wait(limit)
    }

    /// Returns the next line without its line feed, or none where they end for now.
    pub(crate) fn read(&mut self) -> Result<Option<&[u8]>, Error> {
        if std::mem::take(&mut self.given) {
            self.line.clear();
        }
        loop {
            let Some(file) = &mut self.file else {
                match open_if_there(&self.path)? {
                    Some(file) => self.file = Some(file),
                    None => return Ok(None),
                }
                continue;
            };
            file.read_until(b'\n', &mut self.line).map_err(Error::file("read", &self.path))?;
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                self.given = true;
                return Ok(Some(&self.line));
            }
            if !self.follow_rotation()? {
                return Ok(None);
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
        self.line.clear();
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
