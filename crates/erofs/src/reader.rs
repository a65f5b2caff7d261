//! Finds names in an image that this room has written. Of a damaged one it says so.

use crate::format::{BLOCK, DIRENT, INODE, MAGIC, SLOT, SUPERBLOCK_OFFSET};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The largest directory that is read, in bytes: a million entries and more.
const DIRECTORY_MAX: u64 = 256 << 20;

/// An image that is read.
#[derive(Debug)]
pub struct Reader {
    disk: File,
    /// Where inodes are numbered from, in bytes.
    meta: u64,
    root: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// An inode, as far as names need it.
struct Node {
    found: Found,
    size: u64,
    /// Where its data begins, in bytes.
    data: u64,
}

impl Reader {
    /// Reads the head of an image.
    pub fn new(disk: File) -> io::Result<Self> {
        let mut head = [0; 128];
        disk.read_exact_at(&mut head, SUPERBLOCK_OFFSET as u64)?;
        if u32_at(&head, 0) != MAGIC {
            return Err(damaged("it does not begin as an image"));
        }
        let meta = u64::from(u32_at(&head, 40)) * BLOCK as u64;
        Ok(Self { disk, meta, root: u64::from(u16_at(&head, 14)) })
    }

    /// Looks a path up, name by name; links are not followed.
    pub fn find<'n>(&self, path: impl IntoIterator<Item = &'n [u8]>) -> io::Result<Option<Found>> {
        let mut node = self.node(self.root)?;
        for name in path {
            if node.found != Found::Directory {
                return Ok(None);
            }
            match self.entry(&node, name)? {
                Some(number) => node = self.node(number)?,
                None => return Ok(None),
            }
        }
        Ok(Some(node.found))
    }

    fn node(&self, number: u64) -> io::Result<Node> {
        let place = number.checked_mul(SLOT).and_then(|offset| offset.checked_add(self.meta));
        let place = place.ok_or_else(|| damaged("an inode is beyond it"))?;
        let mut inode = [0; INODE];
        self.disk.read_exact_at(&mut inode, place)?;
        let (format, words, mode) = (u16_at(&inode, 0), u64::from(u16_at(&inode, 2)), u16_at(&inode, 4));
        if format & 1 != 1 {
            return Err(damaged("an inode is not of the extended form"));
        }
        let attributes = if words == 0 { 0 } else { 12 + 4 * (words - 1) };
        let inline = format >> 1 == 2;
        let data =
            if inline { place + INODE as u64 + attributes } else { u64::from(u32_at(&inode, 16)) * BLOCK as u64 };
        let found = if mode & 0o170_000 == 0o040_000 { Found::Directory } else { Found::Other };
        let size = u64::from_le_bytes(inode[8..16].try_into().expect("it has this length"));
        Ok(Node { found, size, data })
    }

    /// The number that a directory has for a name.
    fn entry(&self, directory: &Node, name: &[u8]) -> io::Result<Option<u64>> {
        if directory.size > DIRECTORY_MAX {
            return Err(damaged("a directory is larger than any"));
        }
        let mut block = [0; BLOCK];
        for start in (0..directory.size).step_by(BLOCK) {
            let length = usize::try_from(directory.size - start).map_or(BLOCK, |rest| rest.min(BLOCK));
            let block = &mut block[..length];
            self.disk.read_exact_at(block, directory.data + start)?;
            if let Some(number) = search(block, name)? {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

/// Searches a block of a directory: entries first, then their names.
fn search(block: &[u8], name: &[u8]) -> io::Result<Option<u64>> {
    let broken = || damaged("a directory is broken");
    let field = |at: usize| block.get(at..at + 2).map(|bytes| usize::from(u16_at(bytes, 0))).ok_or_else(broken);
    let count = field(8)? / DIRENT;
    for index in 0..count {
        let begin = field(index * DIRENT + 8)?;
        let end = if index + 1 < count { field((index + 1) * DIRENT + 8)? } else { block.len() };
        let its = block.get(begin..end).ok_or_else(broken)?;
        let its = its.split(|byte| *byte == 0).next().unwrap_or_default();
        if its == name {
            let number = block.get(index * DIRENT..index * DIRENT + 8).ok_or_else(broken)?;
            return Ok(Some(u64::from_le_bytes(number.try_into().expect("it has this length"))));
        }
    }
    Ok(None)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
