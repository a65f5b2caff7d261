//! Everything on disk below one data directory: VM records, names, locks, logs, the format's version.
//!
//! ```text
//! <data>/
//!   format             version of this layout
//!   lock               held while a VM directory is created or swept
//!   names/NAME         the id that holds a name
//!   vms/ID/            mode 0700
//!     record.json      what was asked and what became of it (0600: it holds the environment)
//!     lock             held by the owner for the VM's whole life; gone once it has ended
//!     control.sock     the owner answers here
//!     container.log    what the container wrote, and container.log.1 before it
//!     console.log      the last of the serial console
//!     scratch.ext4     what the VM wrote
//!     disk0, disk1…    of the user's disks, those that were copied for this VM or made of a directory
//!     run/             the monitor's world: `/run/vm`
//!     memory, image.erofs, system.erofs
//!                      of a VM that was restored: links to files of its snapshot
//!   snapshots/ID/      see [`snapshot`]
//!   tags/NAME          the id of the snapshot that has a tag
//!   caches/KEY         the id of the snapshot that later runs of a kind start from
//!   volumes/NAME/      a named volume: what is in it, and what is said of it
//!   events/            what happened to VMs: see [`VmEvent`]
//!   images/            of the `image` room
//!   artifacts/         of the `artifacts` room
//! ```
//!
//! Whatever a VM leaves on the host while it runs in rootless mode is in its directory; so the directory is the journal,
//! and teardown, a failed set-up and the sweep after `kill -9` are [`VmDir::release`] and [`Store::sweep`].

mod cgroup;
mod events;
mod fault;
pub mod file;
pub mod log;
mod name;
mod record;
pub mod snapshot;
pub mod sparse;
mod sweep;
mod vm;
mod volume;
mod watch;

pub use cgroup::{cgroup_directories, make_cgroup};
pub use events::{EventReader, VmEvent, What};
pub use fault::{FailPoint, Faults, NotAFault};
pub use fcvm_sys::cgroup::Error as CgroupError;
pub use record::{Ended, Health, HealthRecord, HealthStatus, Monitor, Owner, Receipt, Restored, VmRecord};
pub use sweep::Swept;
pub use vm::{OwnedVm, VmDir};
pub use volume::{VolumeDir, VolumeRecord, VolumeUse};
pub use watch::Watch;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The version of the layout that this build reads and writes.
pub const FORMAT: u32 = 1;

/// One data directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    faults: Faults,
}

/// What can go wrong with the data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file failed.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried, for example `write`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A disk that stays outside of a snapshot was written since.
    #[error("the disk {} is not what it was when the snapshot was made", .0.display())]
    OtherDisk(PathBuf),
    /// The directory was written by another version.
    #[error("the data directory {} has format {found}, this fcvm knows format {FORMAT}", path.display())]
    Format {
        /// The data directory.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// A record cannot be read.
    #[error("the record {} is damaged; `fcvm rm -f` removes its VM", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// Another VM has the name.
    #[error("the name {name:?} is in use by VM {id}; remove it with `fcvm rm {name}` or choose another --name")]
    NameInUse {
        /// The name.
        name: String,
        /// The short id of its holder.
        id: String,
    },
    /// A process owns the VM already.
    #[error("VM {0} is running")]
    Owned(String),
    /// No VM has this name or id.
    #[error("no VM with name or id {0:?}")]
    NoSuchVm(String),
    /// No snapshot has this tag or id.
    #[error("no snapshot with tag or id {0:?}; `fcvm snapshot ls` lists them")]
    NoSuchSnapshot(String),
    /// No volume has this name. Podman's words.
    #[error("no volume with name {0:?} found: no such volume")]
    NoSuchVolume(String),
    /// A volume that VMs have. Podman's words.
    #[error("volume {name} is being used by the following container(s): {ids}: volume is being used")]
    VolumeInUse {
        /// Its name.
        name: String,
        /// Their short ids.
        ids: String,
    },
    /// What is said of a volume cannot be read.
    #[error("the record {} is damaged; `fcvm volume rm` removes its volume", path.display())]
    DamagedVolume {
        /// The record.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// There is no room for a snapshot.
    #[error("a snapshot may need {} MiB where {} MiB are free", needed >> 20, free >> 20)]
    NoRoom {
        /// Bytes that it may need.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// No process of this number serves a snapshot.
    #[error("no `snapshot serve` runs as process {0} on this data directory")]
    NoServer(u32),
    /// A process that has a snapshot does not bring its pages.
    #[error("`snapshot serve` runs as process {0}, but the socket of its page server is gone: start it again")]
    NoPager(u32),
    /// A snapshot cannot be used as it is.
    #[error("the snapshot {} is damaged: {reason}; `fcvm snapshot rm -f` removes it", path.display())]
    DamagedSnapshot {
        /// Its manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later fcvm made the snapshot.
    #[error("the snapshot {} has format {found}, this fcvm knows format {}", path.display(), snapshot::FORMAT)]
    FutureSnapshot {
        /// Its manifest.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// It was asked for.
    #[error("the run failed at the point {0}, as it was told to")]
    Fault(FailPoint),
    /// It was asked for and did not work.
    #[error("send a signal to this process at the point {point}")]
    Signal {
        /// Where.
        point: FailPoint,
        /// Why not.
        source: io::Error,
    },
    /// Several VMs or snapshots have ids that begin so.
    #[error("several have ids that begin with {0:?}; give more digits")]
    Ambiguous(String),
}

impl Error {
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }
}

impl Store {
    /// Opens the data directory and makes it if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(Error::file("resolve", root))?;
        let store = Self { root, faults: Faults::default() };
        // Traversable but not listable for others: an unprivileged monitor of root's reaches its disks through it.
        store.make_dir(&store.root, 0o711)?;
        store.check_format()?;
        for dir in ["names", "vms", "snapshots", "tags", "caches"] {
            store.make_dir(&store.root.join(dir), 0o711)?;
        }
        Ok(store)
    }

    /// The same store in a process that is to fail at a point.
    pub fn with_faults(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// Returns the data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the directory of the image room.
    pub fn images_dir(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Returns the directory of the artifacts room.
    pub fn artifacts_dir(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    fn vms_dir(&self) -> PathBuf {
        self.root.join("vms")
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<(), Error> {
        if path.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::file("create directory", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))
    }

    fn check_format(&self) -> Result<(), Error> {
        let path = self.root.join("format");
        match fs::read_to_string(&path) {
            Ok(text) if text.trim() == FORMAT.to_string() => Ok(()),
            Ok(text) => Err(Error::Format { path: self.root.clone(), found: text.trim().chars().take(20).collect() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file::write_atomic(&path, format!("{FORMAT}\n").as_bytes(), 0o644)
            }
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }

    /// Takes the lock under which VM directories appear and are swept; dropping it gives it back.
    fn exclusive(&self) -> Result<File, Error> {
        let path = self.root.join("lock");
        let lock = file::open_lock(&path)?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(lock)
    }
}

#[cfg(test)]
mod tests;
