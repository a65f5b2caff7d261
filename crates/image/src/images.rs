//! The façade: an image for a reference, whatever it takes. What it takes is in the neighbours.

use crate::{Digest, Error, ImageStore, Progress, PullOptions};
use oci_spec::image::ImageConfiguration;
use std::io::Read;
use std::path::{Path, PathBuf};

/// An image that is here.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its id: the digest of its configuration, `sha256:…`.
    pub digest: String,
    /// Names that mean it, whole (`docker.io/library/busybox:latest`).
    pub names: Vec<String>,
    /// What its author says about running it.
    pub config: ImageConfiguration,
    /// The read-only EROFS disk with its files.
    pub disk: PathBuf,
    /// The disk's size in bytes, without holes.
    pub size: u64,
}

/// The images of one data directory.
#[derive(Clone, Debug)]
pub struct Images {
    store: ImageStore,
}

/// Keeps an image from being removed for as long as it lives.
#[derive(Debug)]
pub struct ImageLock {
    _file: std::fs::File,
}

/// An archive to load images from.
pub enum Archive<'a> {
    /// A file.
    File(&'a Path),
    /// A stream, for example stdin; it is spooled to disk first.
    Stream(&'a mut dyn Read),
}

impl Images {
    /// Opens the image room's directory (`<data>/images`) and makes it if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        Ok(Self { store: ImageStore::open(root)? })
    }

    /// The images on disk: listing, looking up, removing, pruning.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// Returns the image that a reference means, fetching and converting it as the policy says. Blocks.
    pub fn ensure(&self, reference: &str, options: &PullOptions, progress: &dyn Progress) -> Result<Image, Error> {
        let _ = (options, progress);
        Err(Error::NotFound { reference: reference.into(), reason: "fetching is being written".into() })
    }

    /// Loads every image of an OCI or docker archive (`fcvm load`). Blocks.
    pub fn load(&self, archive: Archive<'_>, progress: &dyn Progress) -> Result<Vec<Image>, Error> {
        let _ = (archive, progress);
        Ok(Vec::new())
    }

    /// Makes a disk of a directory (`--rootfs`); `key` is its identity: the same key gives the same disk again. Blocks.
    pub fn import_directory(&self, dir: &Path, key: &str, progress: &dyn Progress) -> Result<Image, Error> {
        let _ = (key, progress);
        Err(Error::NotFound { reference: dir.display().to_string(), reason: "importing is being written".into() })
    }

    /// Keeps an image from being removed.
    pub fn hold(&self, image: &Image) -> Result<ImageLock, Error> {
        self.store.hold(image)
    }
}
