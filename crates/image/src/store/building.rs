//! An image that is being made: a directory aside, which becomes the image by one rename or goes away.

use super::lock::Exclusive;
use super::record::ImageRecord;
use super::{ImageStore, write_atomic};
use crate::{Digest, Error, Image};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What became of the wish to make an image.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is here; perhaps another process made it while we waited.
    Present(Box<Image>),
    /// It is ours to make.
    Absent(Building),
}

/// A directory for something that goes away again, also after a killed process.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    _lock: Exclusive,
}

/// An image in the making. Dropping it leaves nothing.
#[derive(Debug)]
pub(crate) struct Building {
    store: ImageStore,
    id: Digest,
    dir: PathBuf,
    _lock: Exclusive,
}

impl ImageStore {
    /// Claims the making of an image; waits while another process makes it.
    pub(crate) fn claim(&self, id: &Digest) -> Result<Claim, Error> {
        let lock = Exclusive::take(&self.locks_dir().join(id.hex()))?;
        if let Some(image) = self.image(id)? {
            return Ok(Claim::Present(Box::new(image)));
        }
        let dir = self.new_dir().join(id.hex());
        // Whoever began it before us is dead: we have its lock.
        super::remove_tree(&dir)?;
        DirBuilder::new().mode(0o700).create(&dir).map_err(Error::file("create directory", &dir))?;
        Ok(Claim::Absent(Building { store: self.clone(), id: *id, dir, _lock: lock }))
    }

    /// Makes an empty directory of our own.
    pub(crate) fn scratch(&self) -> Result<Scratch, Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("scratch-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lock = Exclusive::take(&self.locks_dir().join(&name))?;
        let dir = self.new_dir().join(name);
        super::remove_tree(&dir)?;
        DirBuilder::new().mode(0o700).create(&dir).map_err(Error::file("create directory", &dir))?;
        Ok(Scratch { dir, _lock: lock })
    }
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = super::remove_tree(&self.dir) {
            tracing::warn!(%error, "a scratch directory stays");
        }
    }
}

impl Building {
    /// Makes the file for the disk.
    pub(crate) fn disk(&self) -> Result<File, Error> {
        let path = self.disk_path();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o644);
        options.open(&path).map_err(Error::file("create", &path))
    }

    /// Where the disk is while it is made.
    pub(crate) fn disk_path(&self) -> PathBuf {
        self.dir.join(super::DISK)
    }

    /// Publishes the image with its complete disk.
    pub(crate) fn publish(
        self,
        disk: &File,
        config: String,
        manifest: Option<Digest>,
        layers: Vec<Digest>,
    ) -> Result<Image, Error> {
        let path = self.disk_path();
        // A name must never lead to a disk that a power failure leaves empty.
        disk.sync_data().map_err(Error::file("write", &path))?;
        let metadata = disk.metadata().map_err(Error::file("read", &path))?;
        disk.set_permissions(fs::Permissions::from_mode(0o644)).map_err(Error::file("set the mode of", &path))?;
        let record = ImageRecord::new(config, manifest, layers, metadata.blocks() * 512);
        write_atomic(&self.dir.join(super::RECORD), &record.to_json(), 0o600)?;
        write_atomic(&self.dir.join(super::LOCK), b"", 0o600)?;
        let mode = fs::Permissions::from_mode(0o711);
        fs::set_permissions(&self.dir, mode).map_err(Error::file("set the mode of", &self.dir))?;
        let place = self.store.image_dir(&self.id);
        fs::rename(&self.dir, &place).map_err(Error::file("publish", &place))?;
        self.store.image(&self.id)?.ok_or_else(|| Error::file("read", &place)(io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if let Err(error) = super::remove_tree(&self.dir) {
            tracing::warn!(%error, "an unfinished image stays");
        }
    }
}
