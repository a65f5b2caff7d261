//! An image in the making that did not come from anywhere: one layer and what is said about it, as an OCI layout aside.
//!
//! It becomes an image here ([`Images::adopt`]) or an archive that other tools load ([`Bundle::write_archive`]).

use crate::store::Scratch;
use crate::transport::{OciLayout, Resolved};
use crate::{Digest, Error, Image, Images, PullOptions, Silent};
use fcvm_archive::{Holes, Packable, Root};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image in the making. Dropped it leaves nothing.
#[derive(Debug)]
pub struct Bundle {
    scratch: Scratch,
}

/// The layer while it is written: a plain tar stream.
#[derive(Debug)]
pub struct LayerWriter {
    file: File,
    hash: Sha256,
    size: u64,
}

/// A layer that is whole.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    digest: Digest,
    size: u64,
}

impl Images {
    /// Begins an image.
    pub fn bundle(&self) -> Result<Bundle, Error> {
        let bundle = Bundle { scratch: self.store().scratch()? };
        let blobs = bundle.blobs();
        fs::create_dir_all(&blobs).map_err(Error::file("create directory", &blobs))?;
        Ok(bundle)
    }

    /// Makes an image of this store, with a name if it is to have one. Blocks.
    pub fn adopt(&self, bundle: &Bundle, name: Option<&str>, options: &PullOptions) -> Result<Image, Error> {
        let names = name.map(whole_name).transpose()?;
        let layout = OciLayout::new(bundle.scratch.path());
        let mut resolved = layout.resolve(None, &options.platform)?;
        resolved.names = names.into_iter().collect();
        self.make_local(&layout, &resolved, options, &Silent)
    }
}

fn whole_name(name: &str) -> Result<String, Error> {
    let reason = "it is no name of an image".to_owned();
    Resolved::local_names(name).pop().ok_or(Error::Reference { text: name.to_owned(), reason })
}

impl Bundle {
    /// Begins its layer.
    pub fn layer(&self) -> Result<LayerWriter, Error> {
        let path = self.unfinished();
        let file = File::options().write(true).create_new(true).open(&path).map_err(Error::file("create", &path))?;
        Ok(LayerWriter { file, hash: Sha256::new(), size: 0 })
    }

    /// Takes the layer in.
    pub fn add(&self, layer: LayerWriter) -> Result<Layer, Error> {
        let LayerWriter { file, hash, size } = layer;
        drop(file);
        let digest = Digest::from_hash(hash);
        let path = self.blobs().join(digest.hex());
        fs::rename(self.unfinished(), &path).map_err(Error::file("create", &path))?;
        Ok(Layer { digest, size })
    }

    /// Says what the image is: a configuration without `rootfs`. A name is for archives.
    pub fn describe(&self, mut config: Value, layer: Layer, name: Option<&str>) -> Result<(), Error> {
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [layer.digest.to_string()] });
        let (config, config_size) = self.blob(&config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config.to_string(), "size": config_size },
            "layers": [{ "mediaType": LAYER, "digest": layer.digest.to_string(), "size": layer.size }],
        });
        let (manifest, manifest_size) = self.blob(&manifest)?;
        let mut entry = json!({ "mediaType": MANIFEST, "digest": manifest.to_string(), "size": manifest_size });
        if let Some(name) = name {
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        }
        self.write("index.json", &json!({ "schemaVersion": 2, "manifests": [entry] }))?;
        self.write("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))
    }

    /// Writes it as an `oci-archive:`. Blocks.
    pub fn write_archive(&self, path: &Path) -> Result<(), Error> {
        let file = File::create(path).map_err(Error::file("create", path))?;
        let root = Root::open(self.scratch.path()).map_err(io::Error::from);
        let root = root.map_err(Error::file("open", self.scratch.path()))?;
        let packed = Packable::find(&root, Path::new("."))?.pack(OsStr::new(""), Holes::Filled, file);
        packed.map(drop).map_err(|error| match error {
            fcvm_archive::Error::Write(source) => Error::of_io("write", path, source),
            other => other.into(),
        })
    }

    fn blob(&self, value: &Value) -> Result<(Digest, usize), Error> {
        let text = value.to_string();
        let digest = Digest::of(text.as_bytes());
        let path = self.blobs().join(digest.hex());
        fs::write(&path, &text).map_err(Error::file("write", &path))?;
        Ok((digest, text.len()))
    }

    fn write(&self, name: &str, value: &Value) -> Result<(), Error> {
        let path = self.scratch.path().join(name);
        fs::write(&path, value.to_string()).map_err(Error::file("write", &path))
    }

    fn blobs(&self) -> PathBuf {
        self.scratch.path().join("blobs/sha256")
    }

    fn unfinished(&self) -> PathBuf {
        self.scratch.path().join("layer")
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
