//! What each entry of a layer does to the tree, after podman's `storage/pkg/archive` and the OCI image specification.
//!
//! - A whiteout hides what earlier layers have, wherever in the layer it stands and whatever kind of entry it is.
//! - A directory meets a directory: its attributes change, its contents stay. All else replaces what has the name.
//! - Parents that are symbolic links are followed inside the root; parents that are missing, or files, become directories.
//! - A hard link gives a node one more name; the node lives on when the first name is replaced.

use super::path::{self, Absent};
use super::{Limits, disk_error};
use crate::Error;
use fcvm_archive::{Entries, Entry, EntryKind, Stream};
use fcvm_erofs::{Age, Attributes, Content, Kind, NodeId, Summary, Timestamp, Writer};
use std::fs::File;
use std::io::Read;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What AUFS keeps for itself.
const META: &[u8] = b".wh..wh.";
/// Attributes that would steer the guest's own overlay mount.
const OVERLAY_XATTR: &[u8] = b"trusted.overlay.";
const XATTRS: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system.posix_acl_"];

/// The tree that layers are merged into.
#[derive(Debug)]
pub(crate) struct Merge {
    writer: Writer,
    entries_left: u64,
}

impl Merge {
    pub(crate) fn new(disk: File, limits: &Limits) -> Result<Self, Error> {
        let writer = Writer::new(disk, limits.disk).map_err(Error::Disk)?;
        Ok(Self { writer, entries_left: limits.archive_entries })
    }

    /// Merges the next layer, a plain tar stream, and reads the stream to its end.
    pub(crate) fn layer(&mut self, stream: impl Read) -> Result<(), Error> {
        self.writer.begin_layer();
        let mut entries = Entries::new(Stream(stream));
        while let Some(entry) = entries.next_entry()? {
            self.entries_left = match self.entries_left.checked_sub(1) {
                Some(left) => left,
                None => return Err(Error::hostile(&entry.name, "the layers have more entries than is allowed")),
            };
            self.entry(entry, &mut entries)?;
        }
        Ok(entries.drain()?)
    }

    /// Completes the disk.
    pub(crate) fn finish(self, uuid: [u8; 16]) -> Result<Summary, Error> {
        self.writer.finish(uuid).map_err(Error::Disk)
    }

    fn entry<R: Read>(&mut self, mut entry: Entry, entries: &mut Entries<Stream<R>>) -> Result<(), Error> {
        entry.attributes.xattrs.retain(|name, _| keeps_xattr(name));
        let name = entry.name.clone();
        let parts = path::components(&name)?;
        let Some((last, parents)) = parts.split_last() else { return self.root(entry) };
        if *last == OPAQUE {
            return self.opaque(parents);
        }
        if parts.iter().any(|part| part.starts_with(META)) {
            return Ok(());
        }
        if let Some(hidden) = last.strip_prefix(WHITEOUT) {
            return self.whiteout(&name, parents, hidden);
        }
        let source = if entry.kind == EntryKind::HardLink { Some(self.link_source(&entry)?) } else { None };
        let parent = path::directory(&mut self.writer, parents, Absent::Make)?.expect("what is absent is made");
        let placed = match source {
            Some(source) => self.link(parent, last, source),
            None => self.place(parent, last, entry, entries),
        };
        placed.map_err(|error| disk_error(&name, error))
    }

    fn root(&mut self, entry: Entry) -> Result<(), Error> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::hostile(&entry.name, "the root can only be a directory"));
        }
        let root = self.writer.root();
        self.writer.set_attributes(root, attributes(entry.attributes)).map_err(|error| disk_error(&entry.name, error))
    }

    fn place<R: Read>(
        &mut self,
        parent: NodeId,
        name: &[u8],
        entry: Entry,
        entries: &mut Entries<Stream<R>>,
    ) -> Result<(), fcvm_erofs::Error> {
        if let Some(there) = self.writer.lookup(parent, name)? {
            if entry.kind == EntryKind::Directory && self.writer.kind(there)? == Kind::Directory {
                self.writer.mark(parent, name)?;
                return self.writer.set_attributes(there, attributes(entry.attributes));
            }
            self.writer.remove(parent, name)?;
        }
        let (major, minor) = entry.device;
        let mut data;
        let content = match entry.kind {
            EntryKind::Directory => Content::Directory,
            EntryKind::Symlink => Content::Symlink(&entry.target),
            EntryKind::CharDevice => Content::CharDevice { major, minor },
            EntryKind::BlockDevice => Content::BlockDevice { major, minor },
            EntryKind::Fifo => Content::Fifo,
            EntryKind::File | EntryKind::HardLink => {
                data = entries.contents(&entry);
                Content::File { size: entry.size, data: &mut *data }
            }
        };
        self.writer.add(parent, name, attributes(entry.attributes.clone()), content).map(drop)
    }

    /// Finds what a hard link names. Its path is from the root, and its last part is not followed.
    fn link_source(&mut self, entry: &Entry) -> Result<NodeId, Error> {
        let refused = |reason: &str| Error::hostile(&entry.name, format!("a hard link to {reason}"));
        let parts = path::components(&entry.target)?;
        let Some((last, parents)) = parts.split_last() else { return Err(refused("the root")) };
        let parent = path::directory(&mut self.writer, parents, Absent::Leave)?;
        let parent = parent.ok_or_else(|| refused("what is not there"))?;
        let wrong = |error| disk_error(&entry.name, error);
        let node = self.writer.lookup(parent, last).map_err(wrong)?.ok_or_else(|| refused("what is not there"))?;
        if self.writer.kind(node).map_err(wrong)? == Kind::Directory {
            return Err(refused("a directory"));
        }
        Ok(node)
    }

    fn link(&mut self, parent: NodeId, name: &[u8], source: NodeId) -> Result<(), fcvm_erofs::Error> {
        if self.writer.lookup(parent, name)? == Some(source) {
            return self.writer.mark(parent, name);
        }
        self.writer.remove(parent, name)?;
        // Gone if the link replaces a directory that its own source was in.
        self.writer.link(parent, name, source)
    }

    fn whiteout(&mut self, entry: &[u8], parents: &[&[u8]], hidden: &[u8]) -> Result<(), Error> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::hostile(entry, "a whiteout of a directory by itself"));
        }
        let Some(parent) = path::directory(&mut self.writer, parents, Absent::Leave)? else { return Ok(()) };
        self.hide(parent, hidden).map_err(|error| disk_error(entry, error))
    }

    fn opaque(&mut self, parents: &[&[u8]]) -> Result<(), Error> {
        let Some(dir) = path::directory(&mut self.writer, parents, Absent::Leave)? else { return Ok(()) };
        let wrong = |error| disk_error(OPAQUE, error);
        let names: Vec<Vec<u8>> = self.writer.entries(dir).map_err(wrong)?.map(|(name, _, _)| name.to_vec()).collect();
        names.iter().try_for_each(|name| self.hide(dir, name)).map_err(wrong)
    }

    /// Removes what earlier layers have under a name; what this layer has put there stays.
    fn hide(&mut self, parent: NodeId, name: &[u8]) -> Result<(), fcvm_erofs::Error> {
        let found = self.writer.lookup(parent, name)?.zip(self.writer.age(parent, name)?);
        let Some((node, age)) = found else { return Ok(()) };
        if self.writer.kind(node)? != Kind::Directory {
            return if age == Age::Old { self.writer.remove(parent, name).map(drop) } else { Ok(()) };
        }
        let mut dirs = vec![(parent, name.to_vec(), node, age)];
        let mut next = 0;
        while let Some((_, _, dir, _)) = dirs.get(next).cloned() {
            next += 1;
            let mut hidden = Vec::new();
            for (name, node, age) in self.writer.entries(dir)? {
                if self.writer.kind(node)? == Kind::Directory {
                    dirs.push((dir, name.to_vec(), node, age));
                } else if age == Age::Old {
                    hidden.push(name.to_vec());
                }
            }
            for name in hidden {
                self.writer.remove(dir, &name)?;
            }
        }
        // Children are behind their parents: from the end on, an old directory without anything new in it is empty.
        for (parent, name, dir, age) in dirs.into_iter().rev() {
            let is_empty = self.writer.entries(dir)?.next().is_none();
            match (age, is_empty) {
                (Age::New, _) => {}
                (Age::Old, true) => drop(self.writer.remove(parent, &name)?),
                (Age::Old, false) => {
                    self.writer.set_attributes(dir, path::implicit())?;
                    self.writer.mark(parent, &name)?;
                }
            }
        }
        Ok(())
    }
}

fn attributes(entry: fcvm_archive::Attributes) -> Attributes {
    let fcvm_archive::Attributes { mode, uid, gid, mtime, xattrs } = entry;
    let mtime = Timestamp { seconds: mtime.seconds, nanoseconds: mtime.nanoseconds };
    Attributes { mode, uid, gid, mtime, xattrs }
}

pub(crate) fn keeps_xattr(name: &[u8]) -> bool {
    let known = XATTRS.iter().any(|prefix| name.starts_with(prefix)) && !name.starts_with(OVERLAY_XATTR);
    if !known {
        tracing::debug!(name = %String::from_utf8_lossy(name), "an extended attribute is left out");
    }
    known
}

#[cfg(test)]
mod tests;
