//! Snapshots on disk. A snapshot is a directory that stands by itself: what it shares with images, artifacts and other
//! snapshots are links to the same files, so removing any of those never hurts it.
//!
//! ```text
//! snapshots/ID/          mode 0700; called ID.new until it is whole
//!   manifest             see [`manifest`]
//!   lock                 held shared while a VM is restored from it, exclusively while it is made or removed
//!   memory               the guest's memory; of a snapshot of a restored VM a link to the memory it was restored from
//!   pages                of the latter, the pages that differ
//!   working-set          which parts of the memory machines use at once; see [`working_set`]
//!   devices              the state of processors and devices
//!   census.json          what ran in the container
//!   scratch.ext4         the disk of the VM's own writes
//!   disk0, disk1…        the user's disks, by their numbers; see [`disks`]
//!   system.erofs, image.erofs    links to the read-only disks
//! ```
//! One of a disk alone has instead of memory, pages, devices, census and system:
//!
//! ```text
//!   image.json           what the image's author says about running it
//! ```
//! A fork's is called ID.fork instead: see [`fork`]. `PID.serve` tells what a process serves: see [`serve`].

mod cache;
mod disks;
mod fork;
pub mod manifest;
mod serve;
mod staging;
mod sweep;
mod working_set;

pub use cache::CacheClaim;
pub use disks::{FileIdentity, SavedDisk, disk_name};
pub(crate) use disks::{disks_in, remove_disks};
pub use fork::ForkHold;
pub use manifest::{ContainerState, FORMAT, FileEntry, Holds, Kind, Manifest, SavedMachine, Source};
pub use serve::Served;
pub use staging::Staging;

use crate::{Error, Store, file, sparse};
use fcvm_spec::{SnapshotId, VmName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The names of a snapshot's files.
pub mod name {
    /// The guest's memory.
    pub const MEMORY: &str = "memory";
    /// Which parts of the memory are used at once, if that was recorded.
    pub const WORKING_SET: &str = "working-set";
    /// Pages that take the place of those in the memory.
    pub const PAGES: &str = "pages";
    /// Processors and devices.
    pub const DEVICES: &str = "devices";
    /// What ran in the container, if it did.
    pub const CENSUS: &str = "census.json";
    /// What the file server of its volumes knew, if it had volumes.
    pub const VOLUMES: &str = "volumes.json";
    /// In a snapshot of a disk, what the image's author says about running it.
    pub const CONFIG: &str = "image.json";
    /// The VM's own writes.
    pub const SCRATCH: &str = "scratch.ext4";
    /// The guest system.
    pub const SYSTEM: &str = "system.erofs";
    /// The image.
    pub const IMAGE: &str = "image.erofs";
    /// What a VM that was restored has links to.
    pub(crate) const LENT: [&str; 3] = [MEMORY, SYSTEM, IMAGE];
    pub(super) const MANIFEST: &str = "manifest";
    pub(super) const LOCK: &str = "lock";
}

/// A snapshot that is whole.
#[derive(Clone, Debug)]
pub struct SnapshotDir {
    id: SnapshotId,
    path: PathBuf,
    store: Store,
}

/// Keeps a snapshot from being removed.
#[derive(Debug)]
pub struct SnapshotHold {
    _lock: File,
}

/// How much room a snapshot takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// What its files hold, holes included.
    pub apparent: u64,
    /// What they take on disk.
    pub real: u64,
    /// That part of it which others share.
    pub shared: u64,
}

impl Store {
    fn snapshots_dir(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    fn tag_path(&self, tag: &VmName) -> PathBuf {
        self.root.join("tags").join(tag.as_str())
    }

    fn snapshot_dir(&self, id: SnapshotId) -> SnapshotDir {
        SnapshotDir { path: self.snapshots_dir().join(id.as_str()), id, store: self.clone() }
    }

    /// Returns every snapshot, in no order.
    pub fn snapshots(&self) -> Result<Vec<SnapshotDir>, Error> {
        let path = self.snapshots_dir();
        let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
        let id = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        Ok(entries.filter_map(id).map(|id| self.snapshot_dir(id)).collect())
    }

    /// Finds a snapshot by tag, id, or the beginning of an id.
    pub fn find_snapshot(&self, text: &str) -> Result<SnapshotDir, Error> {
        if let Ok(tag) = text.parse::<VmName>()
            && let Some(id) = self.tagged(&tag)?
        {
            let dir = self.snapshot_dir(id);
            if dir.path.is_dir() {
                return Ok(dir);
            }
        }
        let missing = || Error::NoSuchSnapshot(text.chars().take(80).collect());
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(hex) {
            return Err(missing());
        }
        let mut found = self.snapshots()?.into_iter().filter(|snapshot| snapshot.id.as_str().starts_with(text));
        match (found.next(), found.next()) {
            (Some(snapshot), None) => Ok(snapshot),
            (Some(_), Some(_)) => Err(Error::Ambiguous(text.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    fn tagged(&self, tag: &VmName) -> Result<Option<SnapshotId>, Error> {
        let path = self.tag_path(tag);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }

    /// Gives a tag to a snapshot; another that had it keeps its id.
    pub fn tag_snapshot(&self, tag: &VmName, id: &SnapshotId) -> Result<(), Error> {
        let _guard = self.exclusive()?;
        file::write_atomic(&self.tag_path(tag), format!("{id}\n").as_bytes(), 0o600)
    }

    /// Returns the tags of a snapshot, in order.
    pub fn tags_of(&self, id: &SnapshotId) -> Result<Vec<VmName>, Error> {
        let path = self.root.join("tags");
        let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<VmName>().ok());
        let mut tags: Vec<VmName> =
            names.filter(|tag| self.tagged(tag).is_ok_and(|found| found.as_ref() == Some(id))).collect();
        tags.sort_unstable();
        Ok(tags)
    }
}

fn lock_of(dir: &Path) -> Result<File, Error> {
    file::open_lock(&dir.join(name::LOCK))
}

impl SnapshotDir {
    /// Its id.
    pub fn id(&self) -> &SnapshotId {
        &self.id
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads its manifest and looks whether the files are there and as long as they were.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let path = self.path(name::MANIFEST);
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoSuchSnapshot(self.id.short().to_owned()),
            _ => Error::file("read", &path)(error),
        })?;
        let manifest = Manifest::decode(&bytes, &path)?;
        if manifest.id != self.id {
            let reason = "its manifest is another snapshot's".to_owned();
            return Err(Error::DamagedSnapshot { path, reason });
        }
        Ok(manifest)
    }

    /// Looks whether its files are there and as long as they were.
    pub fn check_files(&self, manifest: &Manifest) -> Result<(), Error> {
        for (name, entry) in &manifest.files {
            // A manifest is no reason to look anywhere else.
            let plain = !name.contains('/') && name != "..";
            let found = fs::symlink_metadata(self.path(name)).ok().filter(|found| plain && found.is_file());
            let reason = match found {
                None => format!("its file {name:?} is missing"),
                Some(found) if found.len() != entry.size => {
                    format!("its file {name:?} has {} bytes instead of {}", found.len(), entry.size)
                }
                Some(_) => continue,
            };
            return Err(Error::DamagedSnapshot { path: self.path(name::MANIFEST), reason });
        }
        Ok(())
    }

    /// Reads every byte and compares it with what was written. Returns the files that differ.
    pub fn verify(&self) -> Result<Vec<String>, Error> {
        let manifest = self.manifest()?;
        self.check_files(&manifest)?;
        let mut differ = Vec::new();
        for (name, entry) in &manifest.files {
            let Some(expected) = &entry.sha256 else { continue };
            let path = self.path(name);
            if digest(&path).map_err(Error::file("read", &path))? != *expected {
                differ.push(name.clone());
            }
        }
        Ok(differ)
    }

    /// Keeps it from being removed.
    pub fn hold(&self) -> Result<SnapshotHold, Error> {
        let path = self.path(name::LOCK);
        let missing = |_| Error::NoSuchSnapshot(self.id.short().to_owned());
        let lock = File::open(&path).map_err(missing)?;
        lock.lock_shared().map_err(Error::file("lock", &path))?;
        // Removed while this waited.
        if !path.exists() {
            return Err(Error::NoSuchSnapshot(self.id.short().to_owned()));
        }
        Ok(SnapshotHold { _lock: lock })
    }

    /// Has the kernel read one of its files into the page cache, and does not wait for that.
    pub fn read_ahead(&self, name: &str) -> Result<(), Error> {
        let path = self.path(name);
        let file = File::open(&path).map_err(Error::file("open", &path))?;
        let advised = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed).map_err(io::Error::from);
        advised.map_err(Error::file("read ahead in", &path))
    }

    /// Links the files that restored machines map or read into a VM's directory, so that the VM needs the snapshot no
    /// more; the scratch disk is copied, since the VM writes it.
    pub fn lend(&self, into: &Path) -> Result<(), Error> {
        for name in name::LENT {
            link_or_copy(&self.path(name), &into.join(name))?;
        }
        sparse::copy(&self.path(name::SCRATCH), &into.join(name::SCRATCH))
    }

    /// Gives a VM's directory the image and a copy of the disk.
    pub fn lend_disk(&self, into: &Path) -> Result<(), Error> {
        link_or_copy(&self.path(name::IMAGE), &into.join(name::IMAGE))?;
        sparse::copy(&self.path(name::SCRATCH), &into.join(name::SCRATCH))
    }

    /// Removes it and its tags, when nobody is restoring from it.
    pub fn remove(&self) -> Result<(), Error> {
        // Made anew where a damaged one lacks it.
        let lock = lock_of(&self.path).map_err(|_| Error::NoSuchSnapshot(self.id.short().to_owned()))?;
        lock.lock().map_err(Error::file("lock", &self.path))?;
        let _guard = self.store.exclusive()?;
        for tag in self.store.tags_of(&self.id)? {
            file::remove(&self.store.tag_path(&tag))?;
        }
        // Out of sight at once: a removal that is cut short is finished by the sweep.
        let gone = self.path.with_extension("gone");
        fs::rename(&self.path, &gone).map_err(Error::file("rename", &self.path))?;
        file::remove_tree(&gone)
    }

    /// Measures it.
    pub fn sizes(&self) -> Result<Sizes, Error> {
        let mut sizes = Sizes::default();
        for entry in fs::read_dir(&self.path).map_err(Error::file("list", &self.path))?.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let real = metadata.blocks() * 512;
            sizes.apparent += metadata.len();
            sizes.real += real;
            sizes.shared += if metadata.nlink() > 1 { real } else { 0 };
        }
        Ok(sizes)
    }
}

/// Returns the digest of a file: SHA-256 over the place (8 bytes, little-endian) and the bytes of each page that is not
/// all zeros. So holes cost nothing, and it makes no difference whether zeros are holes.
pub fn digest(path: &Path) -> io::Result<String> {
    const PAGE: usize = 4096;
    let mut hasher = Sha256::new();
    let file = File::open(path)?;
    sparse::for_each_piece(&file, |place, bytes| {
        for (index, page) in bytes.chunks(PAGE).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                hasher.update((place + (index * PAGE) as u64).to_le_bytes());
                hasher.update(page);
            }
        }
        Ok(())
    })?;
    Ok(manifest::hex(&hasher.finalize()))
}

fn link_or_copy(from: &Path, to: &Path) -> Result<(), Error> {
    // The source may be a link by name (a shared directory of artifacts).
    let from = from.canonicalize().map_err(Error::file("find", from))?;
    match fs::hard_link(&from, to) {
        Ok(()) => Ok(()),
        // Another file system, or a file of someone else's.
        Err(_) => sparse::copy(&from, to),
    }
}

#[cfg(test)]
mod tests;
