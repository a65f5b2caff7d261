//! Snapshots of forks: nobody lists or finds them, and they go with the command that asked for them.
//!
//! ```text
//! snapshots/ID.hold    locked by that command, from before it asks for the snapshot until its VMs need it no more
//! snapshots/ID.fork/   the snapshot, made by the owner of the VM that is forked
//! ```
//! Without a lock on the first, the sweep removes both: a command that was killed leaves nothing.

use super::SnapshotDir;
use crate::{Error, Store, file};
use fcvm_spec::SnapshotId;
use std::fs::File;
use std::path::PathBuf;

/// What the names of these snapshots and of their holds end with.
pub(super) const FORK: &str = "fork";
pub(super) const HOLD: &str = "hold";

/// Keeps the snapshot of a fork, made already or not. Dropped it removes the snapshot.
#[derive(Debug)]
pub struct ForkHold {
    fork: PathBuf,
    path: PathBuf,
    _lock: File,
}

impl Store {
    /// Makes sure that the snapshot of a fork stays once it is made.
    pub fn hold_fork(&self, id: &SnapshotId) -> Result<ForkHold, Error> {
        let path = self.snapshots_dir().join(id.as_str()).with_extension(HOLD);
        // Not to be swept between the making of the file and its lock.
        let _guard = self.exclusive()?;
        let lock = file::open_lock(&path)?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(ForkHold { fork: path.with_extension(FORK), path, _lock: lock })
    }

    /// Finds a snapshot by its whole id, also that of a fork.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<SnapshotDir, Error> {
        let listed = self.snapshot_dir(id.clone());
        let fork = self.fork_dir(id.clone());
        let found = [listed, fork].into_iter().find(|snapshot| snapshot.path.is_dir());
        found.ok_or_else(|| Error::NoSuchSnapshot(id.short().to_owned()))
    }

    pub(super) fn fork_dir(&self, id: SnapshotId) -> SnapshotDir {
        let path = self.snapshots_dir().join(id.as_str()).with_extension(FORK);
        SnapshotDir { id, path, store: self.clone() }
    }
}

impl Drop for ForkHold {
    fn drop(&mut self) {
        for removed in [file::remove_tree(&self.fork), file::remove(&self.path)] {
            if let Err(error) = removed {
                tracing::warn!(%error, "the snapshot of a fork is left to the sweep");
            }
        }
    }
}
