//! What containers have done to the files of their image: added, changed, deleted.
//!
//! A container's writes are the upper layer of an overlay on its VM's scratch disk. A path is what the layer says, else
//! what the image says; two layers over one image are compared path by path:
//!
//! ```text
//! before \ after   in the layer          only in the image   gone
//! in the layer     changed if it differs changed             deleted
//! only in image    changed (a directory  the same            deleted
//!                  is made for what is in it)
//! gone             added                 added               the same
//! ```
//! A file differs by kind, mode, owner, size or time of its last change; its bytes are not read.

mod upper;

pub use upper::Upper;

use crate::Error;
use fcvm_erofs::{Found, Reader};
use serde::Serialize;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use upper::{Node, Written};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was not there.
    Added,
    /// It was another.
    Changed,
    /// It is not there any more.
    Deleted,
}

/// A path that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedFile {
    /// The absolute path in the container.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// What became of it.
    pub change: Change,
}

/// JSON has no names that are not text.
fn lossy<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// What a container sees at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen<'a> {
    Own(&'a Node),
    Image(Found),
    Nothing,
}

/// Lists what differs between two layers over one image, in the order of the paths. Blocks.
pub fn between(image: &Path, before: &Upper, after: &Upper) -> Result<Vec<ChangedFile>, Error> {
    let disk = File::open(image).and_then(Reader::new).map_err(Error::file("read the disk", image))?;
    let mut changes = Vec::new();
    for path in before.paths_with(after) {
        let found = disk.find(path.split(|byte| *byte == b'/')).map_err(Error::file("search the disk", image))?;
        if let Some(change) = change(seen(before, path, found), seen(after, path, found)) {
            changes.push(ChangedFile { path: Path::new("/").join(OsStr::from_bytes(path)), change });
        }
    }
    Ok(changes)
}

fn seen<'a>(layer: &'a Upper, path: &[u8], image: Option<Found>) -> Seen<'a> {
    match layer.get(path) {
        Some(Written::Node(node)) => Seen::Own(node),
        Some(Written::Deleted) => Seen::Nothing,
        None if layer.hides(path) => Seen::Nothing,
        None => image.map_or(Seen::Nothing, Seen::Image),
    }
}

fn change(before: Seen<'_>, after: Seen<'_>) -> Option<Change> {
    match (before, after) {
        (Seen::Nothing, Seen::Nothing) | (Seen::Image(_), Seen::Image(_)) => None,
        (Seen::Nothing, _) => Some(Change::Added),
        (_, Seen::Nothing) => Some(Change::Deleted),
        (Seen::Own(before), Seen::Own(after)) => (!before.is_like(after)).then_some(Change::Changed),
        (Seen::Own(node), Seen::Image(found)) | (Seen::Image(found), Seen::Own(node)) => {
            let both = found == Found::Directory && node.is_directory();
            (!both).then_some(Change::Changed)
        }
    }
}

#[cfg(test)]
mod tests;
