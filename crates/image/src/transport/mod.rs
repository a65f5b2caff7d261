//! Where images come from. Each source has a file of its own and gives the same: a manifest's parts, and blobs as streams.

mod archive;
mod blob_dir;
mod host_storage;
mod layout;
mod registry;

pub(crate) use archive::{ArchiveFile, DockerArchive, OciArchive};
pub(crate) use blob_dir::BlobDir;
pub(crate) use host_storage::HostStorage;
pub(crate) use layout::OciLayout;
pub(crate) use registry::Registry;

use crate::manifest::Descriptor;
use crate::{Digest, Error, Progress};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a source says about one image.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// What names the image in errors.
    pub(crate) reference: String,
    /// The digest that a user would pull it by; archives of docker have none.
    pub(crate) manifest: Option<Digest>,
    /// The configuration, byte for byte, checked against its digest if it has one.
    pub(crate) config: Vec<u8>,
    /// Blobs from the lowest. Where only the plain stream's digest is known, that is the blob's.
    pub(crate) layers: Vec<Descriptor>,
    /// Whole names that the source gives the image.
    pub(crate) names: Vec<String>,
}

impl Resolved {
    /// Makes whole names of one that a source gives an image; nothing if it is none.
    pub(crate) fn local_names(name: &str) -> Vec<String> {
        layout::archive_name(name).into_iter().collect()
    }
}

/// A layer's blob, ready to be read.
pub(crate) struct Blob {
    pub(crate) reader: Box<dyn Read + Send>,
    /// Whether its digest and size were seen to be right already.
    pub(crate) trust: Trust,
}

/// Whether a blob has still to be checked while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It was fetched and checked, or its digest says nothing that the layer's own does not.
    Checked,
    /// Nobody has looked at it.
    Unchecked,
}

/// Told to fetches when their results are wanted no more.
#[derive(Debug, Default)]
pub(crate) struct Cancel(AtomicBool);

impl Cancel {
    pub(crate) fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Makes blobs readable.
pub(crate) trait Transport: Sync {
    /// Opens the blob of a layer, fetching it first if need be. Called from several threads at once.
    fn open(&self, layer: &Descriptor, progress: &dyn Progress, cancel: &Cancel) -> Result<Blob, Error>;

    /// The image is made, or will not be: what was kept for this may go.
    fn forget(&self, _layers: &[Descriptor]) {}
}

/// Opens a file of a source; that it is not there means that the image is not.
fn open_file(path: &Path, reference: &str) -> Result<File, Error> {
    File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NotFound { reference: reference.into(), reason: format!("{} does not exist", path.display()) }
        }
        _ => Error::file("open", path)(error),
    })
}

/// Reads a small stream whole, up to a limit in bytes.
fn read_small(reader: impl Read, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|error| Error::malformed(what, error))?;
    if bytes.len() as u64 > limit {
        return Err(Error::malformed(what, format!("it is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads a small stream whole and checks it against its descriptor.
fn read_checked(reader: impl Read, descriptor: &Descriptor, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
    let bytes = read_small(reader, limit, what)?;
    let digest = Digest::of(&bytes);
    if digest != descriptor.digest {
        return Err(Error::mismatch(what, &descriptor.digest, &digest));
    }
    if bytes.len() as u64 != descriptor.size {
        return Err(Error::malformed(what, format!("it has {} bytes, not {}", bytes.len(), descriptor.size)));
    }
    Ok(bytes)
}
