//! Snapshots that a process keeps ready for clones that name the process instead.
//!
//! ```text
//! snapshots/PID.serve    the snapshot's id; locked by that process
//! snapshots/PID.pager    where it listens, if it brings the pages of the snapshot's memory
//! ```
//! Without a lock the process is gone, whoever has its number now, and the sweep removes both.

use super::sweep;
use crate::{Error, Store, file};
use fcvm_spec::SnapshotId;
use std::fs::{self, File};
use std::path::PathBuf;

pub(super) const SERVE: &str = "serve";
pub(super) const PAGER: &str = "pager";

/// Makes a snapshot known as this process's. Dropped it ends that.
#[derive(Debug)]
pub struct Served {
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes a snapshot known as that of a process, which is this one.
    pub fn serve_snapshot(&self, id: &SnapshotId, pid: u32) -> Result<Served, Error> {
        let path = self.serve_path(pid);
        let _guard = self.exclusive()?;
        file::remove(&path)?;
        file::remove(&path.with_extension(PAGER))?;
        let lock = file::open_lock(&path)?;
        lock.lock().map_err(Error::file("lock", &path))?;
        fs::write(&path, format!("{id}\n")).map_err(Error::file("write", &path))?;
        Ok(Served { path, _lock: lock })
    }

    /// Finds the snapshot of a process.
    pub fn served_by(&self, pid: u32) -> Result<SnapshotId, Error> {
        let path = self.serve_path(pid);
        let id = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        id.filter(|_| !sweep::is_free(&path)).ok_or(Error::NoServer(pid))
    }

    /// Finds where a process listens that brings the pages of its snapshot. Where its machines map them there is no such
    /// place, and nobody may ask for it.
    pub fn pager_of(&self, pid: u32) -> Result<PathBuf, Error> {
        let path = self.serve_path(pid).with_extension(PAGER);
        if path.exists() { Ok(path) } else { Err(Error::NoPager(pid)) }
    }

    fn serve_path(&self, pid: u32) -> PathBuf {
        self.snapshots_dir().join(pid.to_string()).with_extension(SERVE)
    }
}

impl Served {
    /// Where the process listens, if it brings the pages: there is nothing yet.
    pub fn pager(&self) -> PathBuf {
        self.path.with_extension(PAGER)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for path in [self.pager(), self.path.clone()] {
            if let Err(error) = file::remove(&path) {
                tracing::warn!(%error, "the name of a served snapshot is left to the sweep");
            }
        }
    }
}
