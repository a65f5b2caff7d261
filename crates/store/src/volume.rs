//! Named volumes: directories that outlive the VMs that use them.
//!
//! One is made under a name by which it is not found, and takes its own when it is whole; one that is removed loses its
//! name first. What a killed process left of either is cleared by the next that makes or removes one.

use crate::{Error, Store, VmRecord, file};
use fcvm_spec::{VolumeName, VolumeSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What is said of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Nanoseconds since 1970 when it was made.
    pub created_ns: i64,
    /// What the user wrote on it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Whether a volume has been in a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeUse {
    /// It has not: it may get what the image has at its place.
    Fresh,
    /// It has.
    Used,
}

/// The directory of one volume.
#[derive(Clone, Debug)]
pub struct VolumeDir {
    name: VolumeName,
    path: PathBuf,
}

const RECORD: &str = "volume.json";
const FRESH: &str = "fresh";
const DATA: &str = "_data";

impl Store {
    fn volumes_dir(&self) -> PathBuf {
        self.root.join("volumes")
    }

    fn volume_dir(&self, name: &VolumeName) -> VolumeDir {
        VolumeDir { path: self.volumes_dir().join(name.as_str()), name: name.clone() }
    }

    /// Makes a volume. None: there is one of that name, which stays as it is.
    pub fn create_volume(&self, name: &VolumeName, record: &VolumeRecord) -> Result<Option<VolumeDir>, Error> {
        let dir = self.volume_dir(name);
        if dir.path.is_dir() {
            return Ok(None);
        }
        let _guard = self.exclusive()?;
        if dir.path.is_dir() {
            return Ok(None);
        }
        self.make_dir(&self.volumes_dir(), 0o711)?;
        self.clear_unnamed_volumes()?;
        let staged = self.volumes_dir().join(format!(".{name}"));
        let make = |path: &Path, mode| DirBuilder::new().mode(mode).create(path).map_err(Error::file("create", path));
        make(&staged, 0o711)?;
        make(&staged.join(DATA), 0o755)?;
        let text = serde_json::to_vec_pretty(record).expect("a record is plain");
        file::write_atomic(&staged.join(RECORD), &text, 0o600)?;
        file::write_atomic(&staged.join(FRESH), b"", 0o600)?;
        fs::rename(&staged, &dir.path).map_err(Error::file("create", &dir.path))?;
        Ok(Some(dir))
    }

    /// Returns all volumes by their names.
    pub fn volumes(&self) -> Result<Vec<VolumeDir>, Error> {
        let path = self.volumes_dir();
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::file("list", &path))?,
        };
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let mut volumes: Vec<_> = entries.filter_map(name).map(|name| self.volume_dir(&name)).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// Finds a volume by its name.
    pub fn volume(&self, name: &VolumeName) -> Result<VolumeDir, Error> {
        let dir = self.volume_dir(name);
        if dir.path.is_dir() { Ok(dir) } else { Err(Error::NoSuchVolume(name.to_string())) }
    }

    /// Finds a volume by its name or the only beginning of one.
    pub fn find_volume(&self, text: &str) -> Result<VolumeDir, Error> {
        if let Ok(name) = text.parse::<VolumeName>()
            && let Ok(dir) = self.volume(&name)
        {
            return Ok(dir);
        }
        let mut found = self.volumes()?.into_iter().filter(|volume| volume.name.as_str().starts_with(text));
        match (found.next(), found.next()) {
            (Some(volume), None) if !text.is_empty() => Ok(volume),
            (Some(_), Some(_)) if !text.is_empty() => Err(Error::Ambiguous(text.to_owned())),
            _ => Err(Error::NoSuchVolume(text.chars().take(80).collect())),
        }
    }

    /// Returns the VMs that have a volume, running or not.
    pub fn users_of_volume(&self, name: &VolumeName) -> Result<Vec<VmRecord>, Error> {
        let has = |record: &VmRecord| {
            record.spec.container.volumes.iter().any(|volume| volume.source == VolumeSource::Name(name.clone()))
        };
        Ok(self.vms()?.iter().filter_map(|vm| vm.record().ok()).filter(has).collect())
    }

    /// Removes a volume that no VM has, and all in it.
    pub fn remove_volume(&self, name: &VolumeName) -> Result<(), Error> {
        let guard = self.exclusive()?;
        self.clear_unnamed_volumes()?;
        let dir = self.volume(name)?;
        // A VM is recorded before it looks for its volumes, under the same lock.
        let users = self.users_of_volume(name)?;
        if !users.is_empty() {
            let ids: Vec<&str> = users.iter().map(|record| record.spec.id.short()).collect();
            return Err(Error::VolumeInUse { name: name.to_string(), ids: ids.join(", ") });
        }
        let gone = self.volumes_dir().join(format!(".{name}"));
        fs::rename(&dir.path, &gone).map_err(Error::file("remove", &dir.path))?;
        drop(guard);
        file::remove_tree(&gone)
    }

    fn clear_unnamed_volumes(&self) -> Result<(), Error> {
        let Ok(entries) = fs::read_dir(self.volumes_dir()) else { return Ok(()) };
        let unnamed = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
        entries.flatten().filter(unnamed).try_for_each(|entry| file::remove_tree(&entry.path()))
    }
}

impl VolumeDir {
    /// Its name.
    pub fn name(&self) -> &VolumeName {
        &self.name
    }

    /// What containers see.
    pub fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// What is said of it.
    pub fn record(&self) -> Result<VolumeRecord, Error> {
        let path = self.path.join(RECORD);
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoSuchVolume(self.name.to_string()),
            _ => Error::file("read", &path)(error),
        })?;
        serde_json::from_slice(&text).map_err(|source| Error::DamagedVolume { path, source })
    }

    /// Whether it has been in a container.
    pub fn usage(&self) -> VolumeUse {
        if self.path.join(FRESH).exists() { VolumeUse::Fresh } else { VolumeUse::Used }
    }

    /// It has been in a container from now on.
    pub fn note_use(&self) -> Result<(), Error> {
        file::remove(&self.path.join(FRESH))
    }

    /// The bytes of all that is in it; what cannot be read counts for nothing.
    pub fn size(&self) -> u64 {
        let (mut size, mut pending) = (0, vec![self.data()]);
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                    Ok(metadata) => size += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        size
    }
}
