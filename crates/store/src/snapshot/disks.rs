//! The user's disks in a snapshot: those that the VM could write are copied with it, those that fcvm has made itself are
//! linked, and the user's own read-only files stay where they are: a snapshot knows them again.

use super::{SnapshotDir, Staging, link_or_copy};
use crate::{Error, VmDir, file, sparse};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A disk of a VM when it was captured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedDisk {
    /// It is in the snapshot; whoever starts from it gets a copy.
    Copied,
    /// It is in the snapshot and never changes.
    Linked,
    /// It is where it was.
    Outside(FileIdentity),
}

/// By what a file is known again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified_ns: i64,
}

impl FileIdentity {
    /// That of the file which is there now.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(Error::file("look at", path))?;
        let modified_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Ok(Self { path: path.to_owned(), size: metadata.len(), modified_ns })
    }

    fn check(&self) -> Result<(), Error> {
        if Self::of(&self.path)? == *self { Ok(()) } else { Err(Error::OtherDisk(self.path.clone())) }
    }
}

/// The name of a user's disk by its number, in snapshots and in the directories of VMs.
pub fn disk_name(number: usize) -> String {
    format!("disk{number}")
}

fn is_disk(name: &str) -> bool {
    name.strip_prefix("disk").is_some_and(|number| number.parse::<usize>().is_ok())
}

impl Staging {
    /// The path of one of the user's disks.
    pub fn disk(&self, number: usize) -> PathBuf {
        self.path(&disk_name(number))
    }
}

impl VmDir {
    /// The VM's own copy of one of the user's disks, or what was made of a directory, if it has that.
    pub fn disk(&self, number: usize) -> PathBuf {
        self.path().join(disk_name(number))
    }

    /// The room on the host's disk that the VM's disks take, in bytes: what it has written, and what was made for it.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        let scratch = Some(self.scratch_disk()).filter(|disk| disk.exists());
        scratch.into_iter().chain(disks_in(self.path())?).try_fold(0, |sum, disk| Ok(sum + sparse::allocated(&disk)?))
    }
}

pub(crate) fn disks_in(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::file("list", dir))?.flatten();
    let disks = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_disk));
    Ok(disks.map(|entry| entry.path()).collect())
}

pub(crate) fn remove_disks(dir: &Path) -> Result<(), Error> {
    disks_in(dir)?.iter().try_for_each(|disk| file::remove(disk))
}

impl SnapshotDir {
    /// Gives a VM's directory its disks, or says which of the user's is another by now.
    pub fn lend_disks(&self, disks: &[SavedDisk], into: &Path) -> Result<(), Error> {
        for (number, disk) in disks.iter().enumerate() {
            let name = disk_name(number);
            match disk {
                SavedDisk::Copied => sparse::copy(&self.path(&name), &into.join(&name))?,
                SavedDisk::Linked => link_or_copy(&self.path(&name), &into.join(&name))?,
                SavedDisk::Outside(identity) => identity.check()?,
            }
        }
        Ok(())
    }
}
