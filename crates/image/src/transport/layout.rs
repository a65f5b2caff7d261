//! OCI image layouts: `index.json` and `blobs/sha256/…`, in a directory or (see `archive`) in a tar file.

use super::{Blob, Cancel, Resolved, Transport, Trust, open_file, read_checked, read_small};
use crate::manifest::{self, CONFIG_MAX, Descriptor, Document, IndexEntry, MANIFEST_MAX};
use crate::reference::{Reference, ShortName, Version};
use crate::{Error, Platform, Progress};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A layout's files by their paths in it.
pub(super) trait LayoutFiles {
    /// Opens one.
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error>;
}

/// A layout's directory.
#[derive(Clone, Debug)]
pub(crate) struct OciLayout {
    dir: PathBuf,
}

impl OciLayout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Finds the image with a tag, or the only one.
    pub(crate) fn resolve(&self, tag: Option<&str>, platform: &Platform) -> Result<Resolved, Error> {
        let shown = self.dir.display();
        let reference = format!("oci:{shown}{}", tag.map(|tag| format!(":{tag}")).unwrap_or_default());
        let entry = choose(&index(self, &reference)?, tag, &reference)?;
        let path = self.dir.to_string_lossy().to_lowercase();
        let mut resolved = resolve(self, &entry, platform, reference)?;
        // `save` gives the whole name; a tag alone is one of the directory.
        let whole = entry.ref_name().filter(|name| name.contains('/')).and_then(archive_name);
        let named = || local_name(path.trim_matches('/'), tag.unwrap_or("latest"));
        resolved.names = vec![whole.unwrap_or_else(named)];
        Ok(resolved)
    }
}

impl LayoutFiles for OciLayout {
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(open_file(&self.dir.join(path), &format!("oci:{}", self.dir.display()))?))
    }
}

impl Transport for OciLayout {
    fn open(&self, layer: &Descriptor, _: &dyn Progress, _: &Cancel) -> Result<Blob, Error> {
        Ok(Blob { reader: LayoutFiles::open(self, &blob_path(layer))?, trust: Trust::Unchecked })
    }
}

pub(super) fn blob_path(descriptor: &Descriptor) -> String {
    format!("blobs/sha256/{}", descriptor.digest.hex())
}

/// Reads `index.json`.
pub(super) fn index(files: &dyn LayoutFiles, reference: &str) -> Result<Vec<IndexEntry>, Error> {
    let what = format!("the index of {reference}");
    let bytes = read_small(files.open("index.json")?, MANIFEST_MAX, &what)?;
    match manifest::parse(&bytes, &what)? {
        Document::Index(entries) => Ok(entries),
        Document::Image(_) => Err(Error::malformed(what, "it is no index")),
    }
}

/// Chooses the entry with a tag, or the only one.
pub(super) fn choose(entries: &[IndexEntry], tag: Option<&str>, reference: &str) -> Result<IndexEntry, Error> {
    let missing = |reason: String| Error::NotFound { reference: reference.into(), reason };
    let tags: Vec<&str> = entries.iter().filter_map(IndexEntry::ref_name).take(50).collect();
    match (tag, entries) {
        (None, [entry]) => Ok(entry.clone()),
        (None, []) => Err(missing("the layout is empty".into())),
        (None, _) => Err(missing(format!("the layout has several images, give one of the tags {}", tags.join(", ")))),
        (Some(tag), _) => {
            let found = entries.iter().find(|entry| entry.ref_name() == Some(tag));
            found.cloned().ok_or_else(|| missing(format!("the layout has the tags {}", tags.join(", "))))
        }
    }
}

/// Follows an entry to the image for a platform.
pub(super) fn resolve(
    files: &dyn LayoutFiles,
    entry: &IndexEntry,
    platform: &Platform,
    reference: String,
) -> Result<Resolved, Error> {
    let what = format!("the manifest of {reference}");
    let read = |descriptor: &Descriptor| {
        let bytes = read_checked(files.open(&blob_path(descriptor))?, descriptor, MANIFEST_MAX, &what)?;
        manifest::parse(&bytes, &what)
    };
    let image = match read(&entry.descriptor)? {
        Document::Image(image) => image,
        Document::Index(entries) => match read(&manifest::select(&entries, platform, &reference)?.descriptor)? {
            Document::Image(image) => image,
            Document::Index(_) => return Err(Error::malformed(what, "it is an index within an index")),
        },
    };
    let what = format!("the configuration of {reference}");
    let config = read_checked(files.open(&blob_path(&image.config))?, &image.config, CONFIG_MAX, &what)?;
    let manifest = Some(entry.descriptor.digest);
    Ok(Resolved { reference, manifest, config, layers: image.layers, names: Vec::new() })
}

/// Makes a name of this machine from what a source calls an image.
pub(super) fn local_name(path: &str, tag: &str) -> String {
    let part = |part: &str| {
        let text: String =
            part.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
        text.trim_matches('-').to_owned()
    };
    let parts: Vec<String> = path.split('/').map(part).filter(|part| !part.is_empty()).collect();
    let path = if parts.is_empty() { "image".to_owned() } else { parts.join("/") };
    let tag = if Reference::parse(&format!("x:{tag}")).is_ok() { tag } else { "latest" };
    ShortName { path, version: Version::Tag(tag.into()), bare: false }.at("localhost").to_string()
}

/// Makes whole names of those that an archive gives: names without a registry are of this machine, as podman loads them.
pub(super) fn archive_name(text: &str) -> Option<String> {
    match Reference::parse(text).ok()? {
        Reference::Registry(name) => Some(name.to_string()),
        Reference::Short(short) => Some(short.at("localhost").to_string()),
        _ => None,
    }
}
