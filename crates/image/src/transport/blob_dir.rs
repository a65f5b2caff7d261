//! `dir:` directories of containers/image: `manifest.json` and every blob by its bare digits.

use super::{Blob, Cancel, Resolved, Transport, Trust, open_file, read_checked, read_small};
use crate::manifest::{self, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX};
use crate::{Digest, Error, Progress};
use std::path::{Path, PathBuf};

/// Such a directory.
#[derive(Clone, Debug)]
pub(crate) struct BlobDir {
    dir: PathBuf,
    reference: String,
}

impl BlobDir {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), reference: format!("dir:{}", dir.display()) }
    }

    /// Reads the manifest and the configuration.
    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        let what = format!("the manifest of {}", self.reference);
        let bytes = read_small(open_file(&self.dir.join("manifest.json"), &self.reference)?, MANIFEST_MAX, &what)?;
        let Document::Image(image) = manifest::parse(&bytes, &what)? else {
            return Err(Error::malformed(what, "it is an index"));
        };
        let what = format!("the configuration of {}", self.reference);
        let config = open_file(&self.blob_path(&image.config), &self.reference)?;
        Ok(Resolved {
            reference: self.reference.clone(),
            manifest: Some(Digest::of(&bytes)),
            config: read_checked(config, &image.config, CONFIG_MAX, &what)?,
            layers: image.layers,
            names: Vec::new(),
        })
    }

    fn blob_path(&self, descriptor: &Descriptor) -> PathBuf {
        self.dir.join(descriptor.digest.hex())
    }
}

impl Transport for BlobDir {
    fn open(&self, layer: &Descriptor, _: &dyn Progress, _: &Cancel) -> Result<Blob, Error> {
        let file = open_file(&self.blob_path(layer), &self.reference)?;
        Ok(Blob { reader: Box::new(file), trust: Trust::Unchecked })
    }
}
