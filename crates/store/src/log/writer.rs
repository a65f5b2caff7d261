//! The writing end of a container's log. One owner; readers follow the files.

use super::entry::encode;
use super::{CURRENT, PREVIOUS, Source};
use crate::Error;
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Appends a container's output to its log and keeps the log below twice `limit` bytes.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    buffer: Vec<u8>,
}

impl LogWriter {
    /// The size in bytes at which a file of the log is full, where nothing else is asked for.
    pub const DEFAULT_LIMIT: u64 = 10 << 20;

    /// Opens the log in a VM's directory for appending.
    pub fn open(dir: &Path, limit: u64) -> Result<Self, Error> {
        let file = open_current(dir)?;
        let size = file.metadata().map_err(Error::file("inspect", &dir.join(CURRENT)))?.len();
        Ok(Self { dir: dir.to_owned(), file, size, limit: limit.max(4096), buffer: Vec::new() })
    }

    /// Appends what was received now.
    pub fn write(&mut self, source: Source, bytes: &[u8]) -> Result<(), Error> {
        if self.size >= self.limit {
            self.rotate()?;
        }
        self.buffer.clear();
        encode(&Timestamp::now().to_string(), source, bytes, &mut self.buffer);
        self.file.write_all(&self.buffer).map_err(Error::file("write", &self.dir.join(CURRENT)))?;
        self.size += self.buffer.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), Error> {
        let current = self.dir.join(CURRENT);
        fs::rename(&current, self.dir.join(PREVIOUS)).map_err(Error::file("rename", &current))?;
        self.file = open_current(&self.dir)?;
        self.size = 0;
        Ok(())
    }
}

fn open_current(dir: &Path) -> Result<File, Error> {
    let path = dir.join(CURRENT);
    OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(Error::file("open", &path))
}
