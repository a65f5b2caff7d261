//! Images in the making that did not come from anywhere, or that go somewhere: of one layer each, as an OCI layout aside.
//!
//! One becomes an image here ([`Images::adopt`]); all become an archive that other tools load ([`Bundle::write`]).

mod archive;

pub use archive::ArchiveFormat;

use crate::store::Scratch;
use crate::transport::{OciLayout, Resolved};
use crate::{Digest, Error, Image, Images, PullOptions, Silent};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Images in the making. Dropped it leaves nothing.
#[derive(Debug)]
pub struct Bundle {
    scratch: Scratch,
    images: Vec<Bundled>,
}

/// An image of a bundle: its parts, by digest and size.
#[derive(Debug)]
struct Bundled {
    config: (Digest, usize),
    layer: Layer,
    manifest: (Digest, usize),
    names: Vec<String>,
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
    pub(crate) digest: Digest,
    size: u64,
}

impl Images {
    /// Begins a bundle.
    pub fn bundle(&self) -> Result<Bundle, Error> {
        let bundle = Bundle { scratch: self.store().scratch()?, images: Vec::new() };
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

/// The whole name that an image of this machine has by this one.
pub fn whole_name(name: &str) -> Result<String, Error> {
    let reason = "it is no name of an image".to_owned();
    Resolved::local_names(name).pop().ok_or(Error::Reference { text: name.to_owned(), reason })
}

impl Bundle {
    /// Begins a layer.
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

    /// Says what an image of this layer is: a configuration without `rootfs`. Names are for archives.
    pub fn describe(&mut self, mut config: Value, layer: Layer, names: &[String]) -> Result<(), Error> {
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [layer.digest.to_string()] });
        self.describe_as(config.to_string().as_bytes(), layer, names)
    }

    /// The same with a whole configuration. The same image again is only given more names.
    pub(crate) fn describe_as(&mut self, config: &[u8], layer: Layer, names: &[String]) -> Result<(), Error> {
        let config = self.blob(config)?;
        match self.images.iter_mut().find(|known| known.config == config) {
            Some(known) => known.names.extend_from_slice(names),
            None => {
                let manifest = self.blob(manifest(config, layer).to_string().as_bytes())?;
                self.images.push(Bundled { config, layer, manifest, names: names.to_vec() });
            }
        }
        self.note("index.json", &index(&self.images))?;
        self.note("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))
    }

    fn blob(&self, bytes: &[u8]) -> Result<(Digest, usize), Error> {
        let digest = Digest::of(bytes);
        let path = self.blobs().join(digest.hex());
        fs::write(&path, bytes).map_err(Error::file("write", &path))?;
        Ok((digest, bytes.len()))
    }

    fn note(&self, name: &str, value: &Value) -> Result<(), Error> {
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

fn manifest((config, size): (Digest, usize), layer: Layer) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config.to_string(), "size": size },
        "layers": [{ "mediaType": LAYER, "digest": layer.digest.to_string(), "size": layer.size }],
    })
}

/// Every name has an entry, and an image without one as well.
fn index(images: &[Bundled]) -> Value {
    let mut entries = Vec::new();
    for Bundled { manifest: (digest, size), names, .. } in images {
        let entry = json!({ "mediaType": MANIFEST, "digest": digest.to_string(), "size": size });
        if names.is_empty() {
            entries.push(entry.clone());
        }
        entries.extend(names.iter().map(|name| {
            let mut entry = entry.clone();
            entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
            entry
        }));
    }
    json!({ "schemaVersion": 2, "manifests": entries })
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
