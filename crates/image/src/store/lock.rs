//! Lock files: one holder at a time, released when the holder ends, however it ends.

use crate::Error;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An exclusive lock whose file goes away with it.
#[derive(Debug)]
pub(crate) struct Exclusive {
    file: File,
    path: PathBuf,
}

impl Exclusive {
    /// Waits for the lock.
    pub(crate) fn take(path: &Path) -> Result<Self, Error> {
        loop {
            let file = open(path)?;
            file.lock().map_err(Error::file("lock", path))?;
            if is_at(&file, path)? {
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>, Error> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(is_at(&file, path)?.then(|| Self { file, path: path.to_owned() })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", path)(error)),
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        // Removed while it is held: who waits for it sees that the file is gone and makes a new one.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "a lock file stays");
        }
        let _ = self.file.unlock();
    }
}

/// Opens a lock file and makes it if it is not there.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(Error::file("open", path))
}

/// Whether a path still leads to an open file.
pub(crate) fn is_at(file: &File, path: &Path) -> Result<bool, Error> {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let here = file.metadata().map(identity).map_err(Error::file("read", path))?;
    match fs::symlink_metadata(path).map(identity) {
        Ok(there) => Ok(here == there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::file("read", path)(error)),
    }
}
