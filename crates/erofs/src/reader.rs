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
    pub(crate) disk: File,
    /// Where inodes are numbered from, in bytes.
    meta: u64,
    pub(crate) root: u64,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// An inode and where the rest of it is.
pub(crate) struct Node {
    pub(crate) inode: [u8; INODE],
    /// Where its extended attributes begin and how many bytes they have.
    pub(crate) xattrs: (u64, u64),
    pub(crate) size: u64,
    /// Where its data begins, in bytes.
    pub(crate) data: u64,
}

impl Node {
    /// Kind and permissions, as in `st_mode`.
    pub(crate) fn mode(&self) -> u16 {
        u16_at(&self.inode, 4)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.mode() & 0o170_000 == 0o040_000
    }
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
            if !node.is_directory() {
                return Ok(None);
            }
            match self.entry(&node, name)? {
                Some(number) => node = self.node(number)?,
                None => return Ok(None),
            }
        }
        Ok(Some(if node.is_directory() { Found::Directory } else { Found::Other }))
    }

    pub(crate) fn node(&self, number: u64) -> io::Result<Node> {
        let place = number.checked_mul(SLOT).and_then(|offset| offset.checked_add(self.meta));
        let place = place.ok_or_else(|| damaged("an inode is beyond it"))?;
        let mut inode = [0; INODE];
        self.disk.read_exact_at(&mut inode, place)?;
        let (format, words) = (u16_at(&inode, 0), u64::from(u16_at(&inode, 2)));
        if format & 1 != 1 {
            return Err(damaged("an inode is not of the extended form"));
        }
        let attributes = if words == 0 { 0 } else { 12 + 4 * (words - 1) };
        let (inline, behind) = (format >> 1 == 2, place + INODE as u64);
        let data = if inline { behind + attributes } else { u64::from(u32_at(&inode, 16)) * BLOCK as u64 };
        Ok(Node { inode, xattrs: (behind, attributes), size: u64_at(&inode, 8), data })
    }

    /// The number that a directory has for a name.
    fn entry(&self, directory: &Node, name: &[u8]) -> io::Result<Option<u64>> {
        self.blocks(directory, |block| {
            let mut found = entries(block)?.filter(|entry| entry.as_ref().map_or(true, |(its, _)| *its == name));
            found.next().transpose().map(|entry| entry.map(|(_, number)| number))
        })
    }

    /// Reads a directory block by block until something is found.
    pub(crate) fn blocks<T>(
        &self,
        directory: &Node,
        mut look: impl FnMut(&[u8]) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        if directory.size > DIRECTORY_MAX {
            return Err(damaged("a directory is larger than any"));
        }
        let mut block = [0; BLOCK];
        for start in (0..directory.size).step_by(BLOCK) {
            let length = usize::try_from(directory.size - start).map_or(BLOCK, |rest| rest.min(BLOCK));
            let block = &mut block[..length];
            self.disk.read_exact_at(block, directory.data.saturating_add(start))?;
            if let Some(found) = look(block)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The names in a block of a directory and the numbers of their inodes: entries come first, then their names.
pub(crate) fn entries(block: &[u8]) -> io::Result<impl Iterator<Item = io::Result<(&[u8], u64)>>> {
    let count = field(block, 8)? / DIRENT;
    Ok((0..count).map(move |index| {
        let begin = field(block, index * DIRENT + 8)?;
        let end = if index + 1 < count { field(block, (index + 1) * DIRENT + 8)? } else { block.len() };
        let name = block.get(begin..end).ok_or_else(broken)?;
        let number = block.get(index * DIRENT..index * DIRENT + 8).ok_or_else(broken)?;
        Ok((name.split(|byte| *byte == 0).next().unwrap_or_default(), u64_at(number, 0)))
    }))
}

fn field(block: &[u8], at: usize) -> io::Result<usize> {
    block.get(at..at + 2).map(|bytes| usize::from(u16_at(bytes, 0))).ok_or_else(broken)
}

fn broken() -> io::Error {
    damaged("a directory is broken")
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests;
