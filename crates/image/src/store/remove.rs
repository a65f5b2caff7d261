//! Taking names away, removing images that nobody uses, and clearing what was left half-made.

use super::lock::Exclusive;
use super::names::Names;
use super::{ImageStore, remove_tree};
use crate::{Digest, Error, Image};
use std::fs::{self, File, TryLockError};
use std::io;
use std::time::Duration;

/// What [`ImageStore::prune`] removes besides left-overs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Images without a name.
    Dangling,
    /// Images that no VM runs on, with their names.
    Unused,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that mean nothing any more.
    pub untagged: Vec<String>,
    /// Ids of images that are gone, `sha256:…`.
    pub deleted: Vec<String>,
    /// Their disks' sizes together in bytes.
    pub freed: u64,
}

impl ImageStore {
    /// Takes a name away, and the image with its last one. An id takes all names away.
    pub fn remove(&self, name: &str) -> Result<Removed, Error> {
        let _lock = self.names.lock()?;
        let mut names = self.names.read()?;
        let found = names.resolve(name).map(|(text, meaning)| (text.to_owned(), meaning.image));
        let mut removed = Removed::default();
        let image = match found {
            Some((text, id)) => {
                let image = self.image(&id)?;
                if names.of(&id).len() > 1 || image.is_none() {
                    names.remove_all(std::slice::from_ref(&text));
                    self.names.write(&names)?;
                    removed.untagged.push(text);
                    return Ok(removed);
                }
                image
            }
            None => self.by_id(name)?,
        };
        let image = image.ok_or_else(|| Error::NotFound { reference: name.into(), reason: "it is not here".into() })?;
        self.delete(&image, &mut names, &mut removed)?;
        Ok(removed)
    }

    /// Removes images that nobody needs, and what was left half-made and half-fetched.
    pub fn prune(&self, what: Prune) -> Result<Removed, Error> {
        self.sweep(Duration::ZERO)?;
        let _lock = self.names.lock()?;
        let mut names = self.names.read()?;
        let mut removed = Removed::default();
        for image in self.list()? {
            if what == Prune::Dangling && !image.names.is_empty() {
                continue;
            }
            match self.delete(&image, &mut names, &mut removed) {
                Err(Error::InUse { .. }) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Removes what killed processes left: unfinished images, and blobs that nobody has touched for so long.
    pub(super) fn sweep(&self, age: Duration) -> Result<(), Error> {
        for name in entries(&self.new_dir())? {
            if let Some(_lock) = Exclusive::try_take(&self.locks_dir().join(&name))? {
                remove_tree(&self.new_dir().join(&name))?;
            }
        }
        for name in entries(&self.locks_dir())? {
            drop(Exclusive::try_take(&self.locks_dir().join(&name))?);
        }
        for name in entries(&self.partial_dir())? {
            let path = self.partial_dir().join(name);
            let touched = fs::metadata(&path).and_then(|metadata| metadata.modified());
            if touched.is_ok_and(|touched| touched.elapsed().is_ok_and(|elapsed| elapsed >= age)) {
                // The lock's file is the blob itself: it goes with the lock.
                drop(Exclusive::try_take(&path)?);
            }
        }
        Ok(())
    }

    /// Removes an image and its names; the caller holds the lock on names.
    fn delete(&self, image: &Image, names: &mut Names, removed: &mut Removed) -> Result<(), Error> {
        let id: Digest = image.digest.parse().map_err(|error| Error::malformed("an image's id", error))?;
        let dir = self.image_dir(&id);
        let path = dir.join(super::LOCK);
        let lock = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::file("open", &path)(error)),
        };
        match lock.as_ref().map(File::try_lock) {
            None | Some(Ok(())) => {}
            Some(Err(TryLockError::WouldBlock)) => {
                let name = image.names.first().unwrap_or(&image.digest).clone();
                return Err(Error::InUse { name });
            }
            Some(Err(TryLockError::Error(error))) => return Err(Error::file("lock", &path)(error)),
        }
        // Names first: a name without an image is nothing, an image without a name is dangling.
        let untagged = names.of(&id);
        if !untagged.is_empty() {
            names.remove_all(&untagged);
            self.names.write(names)?;
        }
        // One rename, so that no half of an image is ever seen.
        let aside = self.new_dir().join(format!("{}.old", id.hex()));
        remove_tree(&aside)?;
        fs::rename(&dir, &aside).map_err(Error::file("remove", &dir))?;
        remove_tree(&aside)?;
        removed.untagged.extend(untagged);
        removed.deleted.push(image.digest.clone());
        removed.freed += image.size;
        Ok(())
    }
}

fn entries(dir: &std::path::Path) -> Result<Vec<std::ffi::OsString>, Error> {
    let entries = fs::read_dir(dir).map_err(Error::file("read directory", dir))?;
    Ok(entries.flatten().map(|entry| entry.file_name()).collect())
}
