//! Which snapshot later runs of a kind start from: one file a key, holding an id.
//!
//! `caches/KEY` is written when the snapshot is whole, and touched when it is used; `caches/KEY.lock` is held by the one
//! run that makes it. An entry whose snapshot is gone is no entry.

use super::SnapshotDir;
use crate::{Error, Store, file};
use fcvm_spec::SnapshotId;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

/// The right to make the snapshot of a key, as long as this lives.
#[derive(Debug)]
pub struct CacheClaim {
    path: PathBuf,
    _lock: File,
}

impl Store {
    fn cache_path(&self, key: &str) -> PathBuf {
        debug_assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "a key is a digest");
        self.root.join("caches").join(key)
    }

    /// Finds the snapshot of a key, and notes that it is used.
    pub fn cached(&self, key: &str) -> Result<Option<SnapshotDir>, Error> {
        let path = self.cache_path(key);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        let Ok(id) = text.trim().parse() else { return Ok(None) };
        let snapshot = self.snapshot_dir(id);
        if !snapshot.path.is_dir() {
            return Ok(None);
        }
        if let Ok(entry) = File::options().write(true).open(&path) {
            let _only_the_order_of_eviction = entry.set_modified(SystemTime::now());
        }
        Ok(Some(snapshot))
    }

    /// Takes the right to make the snapshot of a key; none if another process makes it now.
    pub fn claim_cache(&self, key: &str) -> Result<Option<CacheClaim>, Error> {
        let path = self.cache_path(key);
        let lock = file::open_lock(&path.with_extension("lock"))?;
        Ok(lock.try_lock().is_ok().then_some(CacheClaim { path, _lock: lock }))
    }

    /// Removes the snapshot of a key, if it is still this one.
    pub fn forget_cached(&self, key: &str, id: &SnapshotId) -> Result<(), Error> {
        let path = self.cache_path(key);
        let same = fs::read_to_string(&path).is_ok_and(|text| text.trim() == id.as_str());
        if same {
            file::remove(&path)?;
            self.snapshot_dir(id.clone()).remove()?;
        }
        Ok(())
    }

    /// Removes the caches that were used longest ago until the others take at most `room` bytes of their own.
    pub fn evict_caches(&self, room: u64) -> Result<(), Error> {
        let dir = self.root.join("caches");
        let mut caches = Vec::new();
        for entry in fs::read_dir(&dir).map_err(Error::file("list", &dir))?.flatten() {
            let Some(key) = entry.file_name().to_str().filter(|name| !name.contains('.')).map(str::to_owned) else {
                continue;
            };
            let used = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let id = fs::read_to_string(entry.path()).ok().and_then(|text| text.trim().parse().ok());
            let Some(snapshot) = id.map(|id| self.snapshot_dir(id)).filter(|snapshot| snapshot.path.is_dir()) else {
                file::remove(&entry.path())?;
                continue;
            };
            let sizes = snapshot.sizes()?;
            caches.push((used, key, snapshot, sizes.real.saturating_sub(sizes.shared)));
        }
        caches.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut taken = 0;
        for (_, key, snapshot, size) in caches {
            taken += size;
            if taken > room {
                self.forget_cached(&key, snapshot.id())?;
            }
        }
        Ok(())
    }
}

impl CacheClaim {
    /// Lets later runs find the snapshot.
    pub fn fill(self, id: &SnapshotId) -> Result<(), Error> {
        file::write_atomic(&self.path, format!("{id}\n").as_bytes(), 0o600)
    }
}
