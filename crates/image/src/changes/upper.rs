//! The upper layer of an overlay, read from the disk that a guest has written: it may hold anything.

use crate::Error;
use ext4_view::{Ext4, Ext4Error, FileType, Metadata};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where the guest keeps the layer on its disk.
const PLACE: &[u8] = b"/upper";

/// The most paths that a layer may have, the most bytes of all of them, and the deepest.
const PATHS_MAX: usize = 1 << 20;
const BYTES_MAX: usize = 256 << 20;
const DEPTH_MAX: usize = 256;

/// What a container has written, by paths without the slash in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upper(pub(super) BTreeMap<Vec<u8>, Written>);

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Node(Node),
    /// What the image has there is deleted.
    Deleted,
}

/// A file, as far as layers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: FileType,
    pub(super) mode: u16,
    pub(super) owner: (u32, u32),
    pub(super) size: u64,
    pub(super) modified: (i64, u32),
}

impl Node {
    pub(super) fn is_directory(&self) -> bool {
        self.kind.is_dir()
    }

    /// Whether two are taken for the same. A directory is not another because of what is in it.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let content = |node: &Self| (!node.is_directory()).then_some((node.size, node.modified));
        (self.kind, self.mode, self.owner, content(self)) == (other.kind, other.mode, other.owner, content(other))
    }
}

impl Upper {
    /// Reads the layer of a scratch disk. Blocks.
    pub fn read(disk: &Path) -> Result<Self, Error> {
        let broken = |error: Ext4Error| Error::malformed(format!("the scratch disk {}", disk.display()), error);
        let files = Ext4::load_from_path(disk).map_err(broken)?;
        let mut upper = BTreeMap::new();
        let mut bytes = 0;
        let mut pending = vec![(PLACE.to_vec(), 0)];
        while let Some((dir, depth)) = pending.pop() {
            // None at all where the container was never started.
            if depth == 0 && !files.exists(dir.as_slice()).map_err(broken)? {
                break;
            }
            for entry in files.read_dir(dir.as_slice()).map_err(broken)? {
                let entry = entry.map_err(broken)?;
                let name = entry.file_name();
                let name: &[u8] = name.as_ref();
                if name == b"." || name == b".." {
                    continue;
                }
                let path = [dir.as_slice(), b"/", name].concat();
                bytes += path.len();
                if upper.len() == PATHS_MAX || bytes > BYTES_MAX || depth == DEPTH_MAX {
                    return Err(Error::malformed("the scratch disk", "it has more files than are looked at"));
                }
                let metadata = entry.metadata().map_err(broken)?;
                upper.insert(path[PLACE.len() + 1..].to_vec(), written(&metadata));
                if metadata.is_dir() {
                    pending.push((path, depth + 1));
                }
            }
        }
        Ok(Self(upper))
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Written> {
        self.0.get(path)
    }

    /// Whether something above a path is deleted, or is no directory.
    pub(super) fn hides(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        ends.filter_map(|end| self.get(&path[..end])).any(|written| match written {
            Written::Deleted => true,
            Written::Node(node) => !node.is_directory(),
        })
    }

    /// Every path of either, in order.
    pub(super) fn paths_with<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a [u8]> {
        self.0.keys().chain(other.0.keys()).map(Vec::as_slice).collect()
    }
}

/// Overlays mark what is deleted by a device of this kind. One that a privileged container made itself is taken for it:
/// the library does not tell devices' numbers.
fn written(metadata: &Metadata) -> Written {
    let kind = metadata.file_type();
    if kind == FileType::CharacterDevice {
        return Written::Deleted;
    }
    let modified = metadata.modified();
    Written::Node(Node {
        kind,
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        size: metadata.len(),
        modified: (modified.seconds(), modified.nanoseconds()),
    })
}
