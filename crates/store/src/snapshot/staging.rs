//! A snapshot in the making: a directory `ID.new` that becomes `ID` at once, when all of it is on disk.

use super::{Kind, Manifest, SnapshotDir, link_or_copy, lock_of, name};
use crate::{Error, FailPoint, Store, file};
use fcvm_spec::SnapshotId;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A snapshot in the making. Dropped before it is whole it leaves nothing.
#[derive(Debug)]
pub struct Staging {
    id: SnapshotId,
    pub(super) path: PathBuf,
    store: Store,
    _lock: File,
}

impl Store {
    /// Begins a snapshot.
    pub fn begin_snapshot(&self, id: SnapshotId) -> Result<Staging, Error> {
        let path = self.snapshots_dir().join(format!("{id}.new"));
        // Not to be swept between the making of the directory and its lock.
        let _guard = self.exclusive()?;
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::file("create directory", &path))?;
        let lock = lock_of(&path).and_then(|lock| {
            lock.lock().map_err(Error::file("lock", &path))?;
            Ok(lock)
        });
        let lock = lock.inspect_err(|_| {
            let _ = file::remove_tree(&path);
        })?;
        let staging = Staging { id, path, store: self.clone(), _lock: lock };
        staging.reach(FailPoint::CaptureBegun)?;
        Ok(staging)
    }
}

impl Staging {
    /// Its id.
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Passes a point of a capture, or fails there if the store is told so.
    pub fn reach(&self, point: FailPoint) -> Result<(), Error> {
        self.store.faults.at(point)
    }

    /// Creates one of its files, which only its owner may read.
    pub fn create(&self, name: &str) -> Result<File, Error> {
        let path = self.path(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(&path).map_err(Error::file("create", &path))
    }

    /// Links a file that never changes, or copies it where it cannot be linked.
    pub fn link(&self, from: &Path, name: &str) -> Result<(), Error> {
        link_or_copy(from, &self.path(name))
    }

    /// Makes sure that there is room for so many bytes.
    pub fn need(&self, bytes: u64) -> Result<(), Error> {
        let space = rustix::fs::statvfs(&self.path).map_err(io::Error::from);
        let space = space.map_err(Error::file("ask for the free space of", &self.path))?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free < bytes { Err(Error::NoRoom { needed: bytes, free }) } else { Ok(()) }
    }

    /// Makes it whole: all of it is on disk before it can be found.
    pub fn commit(self, manifest: &Manifest) -> Result<SnapshotDir, Error> {
        file::write_atomic(&self.path(name::MANIFEST), &manifest.encode(), 0o600)?;
        for entry in fs::read_dir(&self.path).map_err(Error::file("list", &self.path))?.flatten() {
            let path = entry.path();
            // A link to a file that was whole before needs no writing.
            let shared = entry.metadata().is_ok_and(|metadata| metadata.nlink() > 1);
            if !shared {
                File::open(&path).and_then(|file| file.sync_all()).map_err(Error::file("write back", &path))?;
            }
        }
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(Error::file("write back", &self.path))?;
        self.reach(FailPoint::CaptureWritten)?;
        let dir = match manifest.kind {
            Kind::Fork => self.store.fork_dir(self.id.clone()),
            Kind::User | Kind::Cache { .. } => self.store.snapshot_dir(self.id.clone()),
        };
        fs::rename(&self.path, &dir.path).map_err(Error::file("rename", &self.path))?;
        let parent = self.store.snapshots_dir();
        File::open(&parent).and_then(|file| file.sync_all()).map_err(Error::file("write back", &parent))?;
        self.reach(FailPoint::CaptureCommitted)?;
        Ok(dir)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit there is nothing of this name any more.
        let _ = file::remove_tree(&self.path);
    }
}
