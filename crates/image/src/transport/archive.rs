//! Tar archives of images: what `docker save` writes, and OCI layouts in a file.
//!
//! An archive is scanned once for where its members are; blobs are then read from there. A compressed archive, or one that
//! comes by a pipe, is spooled to a file without a name first.

use super::layout::{self, LayoutFiles, archive_name, blob_path};
use super::{Blob, Cancel, Resolved, Transport, Trust, open_file, read_small};
use crate::layer::decompress;
use crate::manifest::{CONFIG_MAX, Descriptor, IndexEntry, MANIFEST_MAX};
use crate::{Digest, Error, Platform, Progress};
use fcvm_archive::{Entries, EntryKind, Source};
use serde::Deserialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// An image archive has three members for a layer and a few more.
const MEMBERS_MAX: usize = 1 << 16;
const ALIASES_MAX: usize = 8;

/// A tar file whose members can be opened by name.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveFile {
    file: Arc<File>,
    members: HashMap<String, Member>,
    /// What names the archive in errors.
    shown: String,
}

#[derive(Clone, Debug)]
enum Member {
    /// Where its bytes begin, and how many they are.
    Bytes(u64, u64),
    /// Another name of a member: old versions of docker save equal layers as links.
    Alias(String),
}

impl ArchiveFile {
    /// Opens an archive; `spool` is where it is unpacked if it is compressed, up to `limit` bytes.
    pub(crate) fn open(path: &Path, spool: &Path, limit: u64) -> Result<Self, Error> {
        let shown = path.display().to_string();
        let mut file = open_file(path, &shown)?;
        let mut magic = [0; 6];
        let count = file.read_at(&mut magic, 0).map_err(Error::file("read", path))?;
        let must_spool = !file.metadata().is_ok_and(|metadata| metadata.is_file()) || {
            let compressed = [&[0x1f, 0x8b][..], &[0x28, 0xb5, 0x2f, 0xfd], b"BZh", &[0xfd, b'7', b'z']];
            compressed.iter().any(|prefix| magic[..count].starts_with(prefix))
        };
        if must_spool {
            return Self::spooled(&mut file, shown, spool, limit);
        }
        Self::scan(file, shown)
    }

    /// Takes an archive from a stream.
    pub(crate) fn spooled(stream: &mut dyn Read, shown: String, spool: &Path, limit: u64) -> Result<Self, Error> {
        let mut file = tempfile::tempfile_in(spool).map_err(Error::file("create", spool))?;
        let mut plain = decompress(stream)?.take(limit + 1);
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0;
        loop {
            let count = match plain.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::malformed(shown, error)),
            };
            io::Write::write_all(&mut file, &buffer[..count]).map_err(Error::file("write", spool))?;
            total += count as u64;
        }
        if total > limit {
            return Err(Error::malformed(shown, format!("it unpacks to more than {limit} bytes")));
        }
        Self::scan(file, shown)
    }

    /// Whether there is a member of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    fn scan(mut file: File, shown: String) -> Result<Self, Error> {
        file.seek(SeekFrom::Start(0)).map_err(|error| Error::malformed(&shown, error))?;
        let copy = file.try_clone().map_err(|error| Error::malformed(&shown, error))?;
        let mut entries = Entries::new(Seekable(BufReader::new(copy)));
        let mut members = HashMap::new();
        let named = |error: fcvm_archive::Error| match Error::from(error) {
            Error::Malformed { reason, .. } => Error::malformed(&shown, reason),
            error => error,
        };
        while let Some(entry) = entries.next_entry().map_err(named)? {
            let Ok(name) = String::from_utf8(entry.name) else { continue };
            let name = name.trim_start_matches("./").to_owned();
            let target = || String::from_utf8_lossy(&entry.target).into_owned();
            let member = match entry.kind {
                EntryKind::File => Member::Bytes(entries.data_position(), entry.size),
                EntryKind::HardLink => Member::Alias(target()),
                EntryKind::Symlink => Member::Alias(beside(&name, &target())),
                _ => continue,
            };
            members.insert(name, member);
            if members.len() > MEMBERS_MAX {
                return Err(Error::malformed(&shown, "it has more members than any image archive"));
            }
        }
        Ok(Self { file: Arc::new(file), members, shown })
    }

    fn member(&self, name: &str) -> Result<MemberReader, Error> {
        let mut name = name;
        for _ in 0..ALIASES_MAX {
            match self.members.get(name) {
                Some(Member::Bytes(offset, size)) => {
                    return Ok(MemberReader { file: self.file.clone(), position: *offset, left: *size });
                }
                Some(Member::Alias(target)) => name = target,
                None => break,
            }
        }
        Err(Error::malformed(&self.shown, format!("it has no {name}")))
    }
}

/// Resolves a link's target beside its name, without leaving the archive.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A file of which parts are skipped by seeking.
struct Seekable(BufReader<File>);

impl Read for Seekable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Seekable {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0.seek_relative(count)
    }
}

/// A member's bytes.
struct MemberReader {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Read for MemberReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.left.min(buffer.len() as u64) as usize;
        let count = self.file.read_at(&mut buffer[..wanted], self.position)?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// An OCI layout in a tar file.
#[derive(Clone, Debug)]
pub(crate) struct OciArchive(pub(crate) ArchiveFile);

impl LayoutFiles for OciArchive {
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(self.0.member(path)?))
    }
}

impl OciArchive {
    /// Finds the image with a tag, or the only one.
    pub(crate) fn resolve(&self, tag: Option<&str>, platform: &Platform) -> Result<Resolved, Error> {
        let reference = format!("oci-archive:{}", self.0.shown);
        let entry = layout::choose(&layout::index(self, &reference)?, tag, &reference)?;
        self.resolve_entry(&entry, platform, reference)
    }

    /// Finds all images.
    pub(crate) fn resolve_all(&self, platform: &Platform) -> Result<Vec<Resolved>, Error> {
        let reference = format!("oci-archive:{}", self.0.shown);
        let entries = layout::index(self, &reference)?;
        entries.iter().map(|entry| self.resolve_entry(entry, platform, reference.clone())).collect()
    }

    fn resolve_entry(&self, entry: &IndexEntry, platform: &Platform, reference: String) -> Result<Resolved, Error> {
        let mut resolved = layout::resolve(self, entry, platform, reference)?;
        resolved.names.extend(entry.image_name().or(entry.ref_name()).and_then(archive_name));
        Ok(resolved)
    }
}

impl Transport for OciArchive {
    fn open(&self, layer: &Descriptor, _: &dyn Progress, _: &Cancel) -> Result<Blob, Error> {
        Ok(Blob { reader: LayoutFiles::open(self, &blob_path(layer))?, trust: Trust::Unchecked })
    }
}

/// What `docker save` writes: `manifest.json` and plain layers.
#[derive(Clone, Debug)]
pub(crate) struct DockerArchive {
    archive: ArchiveFile,
    /// Members by the digests of the layers in them.
    layers: HashMap<Digest, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

impl DockerArchive {
    /// The member that makes an archive one of docker's.
    pub(crate) const MANIFEST: &str = "manifest.json";

    /// Reads what images there are.
    pub(crate) fn resolve_all(archive: ArchiveFile) -> Result<(Self, Vec<Resolved>), Error> {
        let what = format!("the manifest of docker-archive:{}", archive.shown);
        let bytes = read_small(archive.member(Self::MANIFEST)?, MANIFEST_MAX, &what)?;
        let manifests: Vec<DockerManifest> =
            serde_json::from_slice(&bytes).map_err(|error| Error::malformed(&what, error))?;
        let mut this = Self { archive, layers: HashMap::new() };
        let images = manifests.into_iter().map(|manifest| this.image(manifest)).collect::<Result<_, _>>()?;
        Ok((this, images))
    }

    /// Chooses the image with a name, or the only one.
    pub(crate) fn choose(&self, images: Vec<Resolved>, name: Option<&str>) -> Result<Resolved, Error> {
        let names: Vec<String> = images.iter().flat_map(|image| image.names.clone()).take(50).collect();
        let reference = format!("docker-archive:{}", self.archive.shown);
        let missing =
            || Error::NotFound { reference: reference.clone(), reason: format!("it has {}", names.join(", ")) };
        let Some(name) = name else {
            let mut images = images.into_iter();
            return images.next().filter(|_| images.len() == 0).ok_or_else(missing);
        };
        let wanted = archive_name(name);
        images
            .into_iter()
            .find(|image| wanted.as_ref().is_some_and(|name| image.names.contains(name)))
            .ok_or_else(missing)
    }

    fn image(&mut self, manifest: DockerManifest) -> Result<Resolved, Error> {
        let reference = format!("docker-archive:{}", self.archive.shown);
        let what = format!("the configuration of {reference}");
        let config = read_small(self.archive.member(&manifest.config)?, CONFIG_MAX, &what)?;
        let parsed: oci_spec::image::ImageConfiguration =
            serde_json::from_slice(&config).map_err(|error| Error::malformed(&what, error))?;
        let (ids, members) = (crate::manifest::diff_ids(&parsed)?, manifest.layers.unwrap_or_default());
        if ids.len() != members.len() {
            return Err(Error::malformed(what, "it does not have as many layers as the manifest"));
        }
        let mut layers = Vec::new();
        for (digest, member) in ids.into_iter().zip(members) {
            let size = self.archive.member(&member)?.left;
            layers.push(Descriptor { digest, size, media_type: String::new() });
            self.layers.insert(digest, member);
        }
        let names = manifest.repo_tags.unwrap_or_default().iter().filter_map(|name| archive_name(name)).collect();
        Ok(Resolved { reference, manifest: None, config, layers, names })
    }
}

impl Transport for DockerArchive {
    fn open(&self, layer: &Descriptor, _: &dyn Progress, _: &Cancel) -> Result<Blob, Error> {
        let member = self.layers.get(&layer.digest).map_or("", String::as_str);
        // The digest is of the plain stream, which is checked in any case.
        Ok(Blob { reader: Box::new(self.archive.member(member)?), trust: Trust::Checked })
    }
}
