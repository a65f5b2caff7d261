//! What killed makers and removers of snapshots left. Caches that nothing refers to are not of these: see [`super::cache`].

use super::fork::{FORK, HOLD};
use super::name;
use super::serve::{PAGER, SERVE};
use crate::{Error, Store, file};
use std::fs::{self, File};
use std::path::Path;

impl Store {
    /// Removes what is unfinished, half removed, or of a fork or a server whose process is gone.
    pub(crate) fn sweep_snapshots(&self) -> Result<(), Error> {
        let path = self.snapshots_dir();
        let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?.flatten();
        let candidates: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some()).collect();
        if candidates.is_empty() {
            return Ok(());
        }
        // What is made takes its lock under this one, so that what has no lock is nobody's.
        let _guard = self.exclusive()?;
        for path in candidates {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("new" | "gone") if is_free(&path.join(name::LOCK)) => file::remove_tree(&path)?,
                Some(FORK) if is_free(&path.with_extension(HOLD)) && is_free(&path.join(name::LOCK)) => {
                    file::remove_tree(&path)?;
                }
                Some(HOLD | SERVE) if is_free(&path) => file::remove(&path)?,
                Some(PAGER) if is_free(&path.with_extension(SERVE)) => file::remove(&path)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether nobody holds a lock; one that is not there is held by nobody.
pub(super) fn is_free(lock: &Path) -> bool {
    File::open(lock).map_or(true, |lock| lock.try_lock().is_ok())
}
