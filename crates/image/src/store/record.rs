//! What is kept about an image beside its disk: `image.json`.

use crate::health::{self, HealthCheck};
use crate::{Digest, Error};
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// The version of `image.json` that this build writes and reads.
const FORMAT: u32 = 1;

/// An image's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    format: u32,
    /// The configuration, byte for byte: its digest is the image's id.
    pub(crate) config: String,
    /// The manifest that the layers came by, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<Digest>,
    /// The layers' blobs, from the lowest.
    pub(crate) layers: Vec<Digest>,
    /// The disk's size in bytes, without holes.
    pub(crate) size: u64,
    /// When the disk was made, in seconds since 1970.
    pub(crate) made: u64,
}

impl ImageRecord {
    pub(crate) fn new(config: String, manifest: Option<Digest>, layers: Vec<Digest>, size: u64) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { format: FORMAT, config, manifest, layers, size, made: now.as_secs() }
    }

    /// Reads `image.json` and the configuration in it.
    pub(super) fn read(path: &Path) -> Result<(Self, ImageConfiguration, Option<HealthCheck>), Error> {
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        let damaged = |reason: String| Error::Configuration { path: path.to_owned(), reason };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.format != FORMAT {
            return Err(damaged(format!("it has format {}, this fcvm knows format {FORMAT}", record.format)));
        }
        let config = serde_json::from_str(&record.config).map_err(|error| damaged(error.to_string()))?;
        let health = health::of_config(&record.config);
        Ok((record, config, health))
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a record is plain text")
    }
}
