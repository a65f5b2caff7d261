//! Walks an image that this room has written, from its root down. Of a damaged one it says so.

use crate::format::{XATTR_HEADER, XATTR_PREFIXES};
use crate::reader::{Node, Reader, damaged, entries, u16_at, u32_at, u64_at};
use crate::{Attributes, Kind, TARGET_MAX, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// A name in an image and what it stands for.
#[derive(Clone, Debug)]
pub struct Item {
    /// The path from the root, without a slash in front; the root's own is empty.
    pub path: Vec<u8>,
    /// The node's number: names of one node have the same.
    pub number: u64,
    /// How many names the node has.
    pub links: u32,
    /// Its owner, mode, time and more.
    pub attributes: Attributes,
    form: u16,
    size: u64,
    /// Where its data begins, in bytes.
    data: u64,
    device: u32,
    target: Vec<u8>,
}

/// All names of an image: a directory before what is in it, names of one directory in the order of their bytes.
#[derive(Debug)]
pub struct Walk<'r> {
    reader: &'r Reader,
    pending: Vec<(Vec<u8>, u64)>,
    /// A directory has one name; a damaged image could send us round.
    entered: HashSet<u64>,
}

/// The bytes of a file.
#[derive(Debug)]
pub struct Contents<'r> {
    disk: &'r File,
    position: u64,
    left: u64,
}

impl Reader {
    /// Walks the whole image. After an error there is nothing more.
    pub fn walk(&self) -> Walk<'_> {
        Walk { reader: self, pending: vec![(Vec::new(), self.root)], entered: HashSet::new() }
    }

    /// Reads a file's bytes; of anything else there are none.
    pub fn contents(&self, item: &Item) -> Contents<'_> {
        let left = if matches!(item.kind(), Kind::File { .. }) { item.size } else { 0 };
        Contents { disk: &self.disk, position: item.data, left }
    }

    fn item(&self, path: Vec<u8>, number: u64, node: &Node) -> io::Result<Item> {
        let inode = &node.inode;
        let mode = node.mode();
        let mut item = Item {
            path,
            number,
            links: u32_at(inode, 44),
            attributes: Attributes {
                mode: mode & 0o7777,
                uid: u32_at(inode, 24),
                gid: u32_at(inode, 28),
                mtime: Timestamp { seconds: u64_at(inode, 32).cast_signed(), nanoseconds: u32_at(inode, 40) },
                xattrs: self.xattrs(node)?,
            },
            form: mode & !0o7777,
            size: node.size,
            data: node.data,
            device: u32_at(inode, 16),
            target: Vec::new(),
        };
        if item.form == 0o120_000 {
            let size = usize::try_from(node.size).ok().filter(|size| *size <= TARGET_MAX);
            item.target = self.bytes(node.data, size.ok_or_else(|| damaged("a link's target is longer than any"))?)?;
        }
        Ok(item)
    }

    fn xattrs(&self, node: &Node) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (place, length) = node.xattrs;
        let bytes = self.bytes(place, length as usize)?;
        xattrs(&bytes).ok_or_else(|| damaged("extended attributes are broken"))
    }

    fn bytes(&self, place: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.disk.read_exact_at(&mut bytes, place)?;
        Ok(bytes)
    }
}

impl Walk<'_> {
    fn step(&mut self, path: Vec<u8>, number: u64) -> io::Result<Item> {
        let node = self.reader.node(number)?;
        if node.is_directory() {
            if !self.entered.insert(number) {
                return Err(damaged("a directory is in two places"));
            }
            self.enter(&path, &node)?;
        }
        self.reader.item(path, number, &node)
    }

    /// Puts what is in a directory before all else that is still to come.
    fn enter(&mut self, path: &[u8], directory: &Node) -> io::Result<()> {
        let first = self.pending.len();
        self.reader.blocks(directory, |block| {
            for entry in entries(block)? {
                let (name, number) = entry?;
                if name.is_empty() || name.contains(&b'/') {
                    return Err(damaged("a name is none that a file can have"));
                }
                if !matches!(name, b"." | b"..") {
                    let slash = if path.is_empty() { &b""[..] } else { b"/" };
                    self.pending.push(([path, slash, name].concat(), number));
                }
            }
            Ok(None::<()>)
        })?;
        self.pending[first..].reverse();
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<io::Result<Item>> {
        let (path, number) = self.pending.pop()?;
        let item = self.step(path, number);
        if item.is_err() {
            self.pending.clear();
        }
        Some(item)
    }
}

impl Item {
    /// What it is.
    pub fn kind(&self) -> Kind<'_> {
        // The kernel's `new_decode_dev`.
        let (major, minor) = (self.device >> 8 & 0xfff, self.device & 0xff | self.device >> 12 & !0xff);
        match self.form {
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Symlink(&self.target),
            0o020_000 => Kind::CharDevice { major, minor },
            0o060_000 => Kind::BlockDevice { major, minor },
            0o010_000 => Kind::Fifo,
            0o140_000 => Kind::Socket,
            _ => Kind::File { size: self.size },
        }
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.disk.read_at(&mut buffer[..wanted], self.position)?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Decodes a node's extended attributes; nothing if they are broken.
fn xattrs(bytes: &[u8]) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut rest = bytes.get(XATTR_HEADER..).unwrap_or_default();
    while !rest.is_empty() {
        let (name, index, value) = (usize::from(*rest.first()?), *rest.get(1)?, rest.get(2..4)?);
        let value = 4 + name + usize::from(u16_at(value, 0));
        let (prefix, _) = XATTR_PREFIXES.iter().find(|(_, known)| *known == index)?;
        found.insert([prefix, rest.get(4..4 + name)?].concat(), rest.get(4 + name..value)?.to_vec());
        rest = rest.get(value.next_multiple_of(4)..)?;
    }
    Some(found)
}

#[cfg(test)]
mod tests;
