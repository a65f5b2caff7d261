//! Small images for tests, in the forms in which images travel.

use crate::{Digest, Images, Limits, Platform, PullOptions, RegistrySettings};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// One image: its blobs by their digests.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    /// As they travel.
    pub(crate) layers: Vec<Vec<u8>>,
    /// As they were made.
    pub(crate) plain: Vec<Vec<u8>>,
}

/// A data directory and what tests put beside it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) images: Images,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = Images::open(&dir.path().join("images")).unwrap();
        Self { dir, images }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is in a directory of the store.
    pub(crate) fn listing(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("images").join(name)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Asserts that nothing is half-made.
    pub(crate) fn assert_clean(&self) {
        for dir in ["new", "locks", "partial"] {
            assert_eq!(self.listing(dir), Vec::<String>::new(), "{dir}");
        }
    }
}

/// Options that look at no file of the host.
pub(crate) fn options() -> PullOptions {
    PullOptions { registries: RegistrySettings::default(), limits: Limits::default(), ..PullOptions::default() }
}

/// A layer with files of these contents.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(|_| next()).collect()
}

impl Sample {
    /// An image for this machine whose layers travel as gzip.
    pub(crate) fn new(plain: Vec<Vec<u8>>) -> Self {
        Self::with(plain, gzip, &Platform::host().architecture)
    }

    /// A busybox-like image in two layers.
    pub(crate) fn small() -> Self {
        Self::new(vec![layer(&[("bin/sh", b"shell"), ("gone", b"x")]), layer(&[(".wh.gone", b""), ("etc/x", b"y")])])
    }

    pub(crate) fn with(plain: Vec<Vec<u8>>, pack: impl Fn(&[u8]) -> Vec<u8>, architecture: &str) -> Self {
        let ids: Vec<String> = plain.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = json!({
            "os": "linux", "architecture": architecture, "created": "2024-01-01T00:00:00Z",
            "config": { "Cmd": ["sh"], "Env": ["A=b"], "ExposedPorts": { "80/tcp": {} }, "Volumes": null },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let config = config.to_string().into_bytes();
        let layers: Vec<Vec<u8>> = plain.iter().map(|layer| pack(layer)).collect();
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|layer| descriptor(layer, kind)).collect::<Vec<_>>(),
        });
        Self { config, manifest: manifest.to_string().into_bytes(), layers, plain }
    }

    pub(crate) fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }

    pub(crate) fn manifest_digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// All blobs that a layout or a registry has.
    pub(crate) fn blobs(&self) -> Vec<&[u8]> {
        let mut blobs = vec![self.config.as_slice(), self.manifest.as_slice()];
        blobs.extend(self.layers.iter().map(Vec::as_slice));
        blobs
    }

    /// Writes an OCI layout with the image under a tag.
    pub(crate) fn write_layout(&self, dir: &Path, tag: &str) {
        let mut entry = descriptor(&self.manifest, "application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        self.write_layout_with(dir, &[entry]);
    }

    pub(crate) fn write_layout_with(&self, dir: &Path, entries: &[Value]) {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for blob in self.blobs() {
            fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
        }
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
    }

    /// Writes what `docker save` writes.
    pub(crate) fn write_docker_archive(&self, path: &Path, names: &[&str]) {
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        let mut add = |name: &str, data: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, data).unwrap();
        };
        let config = format!("{}.json", Digest::of(&self.config).hex());
        add(&config, &self.config);
        let mut members = Vec::new();
        for (n, layer) in self.plain.iter().enumerate() {
            members.push(format!("{n}/layer.tar"));
            add(&members[n], layer);
        }
        let manifest = json!([{ "Config": config, "RepoTags": names, "Layers": members }]);
        add("manifest.json", manifest.to_string().as_bytes());
        builder.finish().unwrap();
    }
}

pub(crate) fn descriptor(blob: &[u8], media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(blob).to_string(), "size": blob.len() })
}

/// Packs a directory as a plain tar archive.
pub(crate) fn tar_of(dir: &Path, path: &Path) {
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    builder.append_dir_all(".", dir).unwrap();
    builder.finish().unwrap();
}
