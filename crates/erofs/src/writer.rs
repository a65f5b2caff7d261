//! The door of the room: nodes are added, linked and removed by name; data streams to the output at once.

use crate::blocks::Blocks;
use crate::tree::{Age, Attributes, Kind, Node, NodeId, Payload, Tree};
use crate::{Error, Limits, TARGET_MAX, format, layout};
use std::fs::File;
use std::io::Read;

/// What a new node holds.
pub enum Content<'a> {
    /// Nothing yet.
    Directory,
    /// Bytes.
    File {
        /// How many.
        size: u64,
        /// Whence; exactly `size` bytes are taken.
        data: &'a mut dyn Read,
    },
    /// A path.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice {
        /// The driver.
        major: u32,
        /// The device.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver.
        major: u32,
        /// The device.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Writes one image. After an error of [`Error::Write`], [`Error::Read`] or [`Error::Truncated`] it can only be dropped.
#[derive(Debug)]
pub struct Writer {
    blocks: Blocks,
    tree: Tree,
}

/// What became of an image.
#[derive(Debug)]
pub struct Summary {
    /// The output, complete but not synced.
    pub file: File,
    /// Nodes in it.
    pub nodes: u64,
    /// Its length in bytes, holes included.
    pub length: u64,
}

impl Writer {
    /// Begins an image in a file, which is emptied.
    pub fn new(file: File, limits: Limits) -> Result<Self, Error> {
        Ok(Self { blocks: Blocks::new(file, &limits)?, tree: Tree::new(limits) })
    }

    /// Returns the root directory.
    pub fn root(&self) -> NodeId {
        Tree::ROOT
    }

    /// Returns what a directory has under a name.
    pub fn lookup(&self, dir: NodeId, name: &[u8]) -> Result<Option<NodeId>, Error> {
        Ok(self.tree.directory(dir)?.children.get(name).map(|name| name.node))
    }

    /// Returns how old a directory's name is, in layers.
    pub fn age(&self, dir: NodeId, name: &[u8]) -> Result<Option<Age>, Error> {
        Ok(self.tree.directory(dir)?.children.get(name).map(|name| self.tree.age(*name)))
    }

    /// Returns the directory that a directory is in; the root is in itself.
    pub fn parent(&self, dir: NodeId) -> Result<NodeId, Error> {
        Ok(self.tree.directory(dir)?.parent)
    }

    /// Returns a directory's entries in the order of their names, with their ages in layers.
    pub fn entries(&self, dir: NodeId) -> Result<impl Iterator<Item = (&[u8], NodeId, Age)>, Error> {
        let children = self.tree.directory(dir)?.children.iter();
        Ok(children.map(|(text, name)| (&**text, name.node, self.tree.age(*name))))
    }

    /// Begins the next layer: whatever has a name now is old, what gets one from now on is new.
    pub fn begin_layer(&mut self) {
        self.tree.begin_layer();
    }

    /// Makes a name that is there a new one.
    pub fn mark(&mut self, dir: NodeId, name: &[u8]) -> Result<(), Error> {
        self.tree.mark(dir, name)
    }

    /// Returns what a node is.
    pub fn kind(&self, node: NodeId) -> Result<Kind<'_>, Error> {
        Ok(self.tree.node(node)?.kind())
    }

    /// Returns a node's attributes.
    pub fn attributes(&self, node: NodeId) -> Result<&Attributes, Error> {
        Ok(&self.tree.node(node)?.attributes)
    }

    /// Replaces a node's attributes.
    pub fn set_attributes(&mut self, node: NodeId, attributes: Attributes) -> Result<(), Error> {
        format::check_xattrs(&attributes)?;
        self.tree.set_attributes(node, attributes)
    }

    /// Adds a node. The name must be free.
    pub fn add(
        &mut self,
        dir: NodeId,
        name: &[u8],
        attributes: Attributes,
        content: Content<'_>,
    ) -> Result<NodeId, Error> {
        self.tree.check_name(dir, name)?;
        format::check_xattrs(&attributes)?;
        let payload = self.payload(dir, content)?;
        self.tree.insert(dir, name, Node { attributes, payload, links: 1 })
    }

    /// Gives a node that is no directory one more name, which must be free.
    pub fn link(&mut self, dir: NodeId, name: &[u8], target: NodeId) -> Result<(), Error> {
        self.tree.check_name(dir, name)?;
        self.tree.link(dir, name, target)
    }

    /// Removes a name and everything below it. Returns whether there was one.
    pub fn remove(&mut self, dir: NodeId, name: &[u8]) -> Result<bool, Error> {
        let Some(freed) = self.tree.remove(dir, name)? else { return Ok(false) };
        freed.into_iter().try_for_each(|extent| self.blocks.punch(extent))?;
        Ok(true)
    }

    /// Appends directories and inodes, then writes the superblock.
    pub fn finish(self, uuid: [u8; 16]) -> Result<Summary, Error> {
        layout::finish(self.tree, self.blocks, uuid)
    }

    fn payload(&mut self, dir: NodeId, content: Content<'_>) -> Result<Payload, Error> {
        Ok(match content {
            Content::Directory => Payload::Directory(self.tree.new_directory(dir)?),
            Content::File { size, data } => Payload::File { size, extent: self.blocks.append_stream(size, data)? },
            Content::Symlink(target) => {
                if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
                    return Err(Error::Target { length: target.len() });
                }
                Payload::Symlink(target.into())
            }
            Content::CharDevice { major, minor } => Payload::CharDevice { major, minor },
            Content::BlockDevice { major, minor } => Payload::BlockDevice { major, minor },
            Content::Fifo => Payload::Fifo,
            Content::Socket => Payload::Socket,
        })
    }
}

#[cfg(test)]
mod tests;
