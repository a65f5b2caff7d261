//! The tree in memory: names and attributes, and where data lies. Bytes are the business of `blocks` and `format`.

use crate::{Error, Limits, NAME_MAX};
use std::collections::BTreeMap;

/// A node of the tree. It stays valid until the node's last name is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId {
    pub(crate) slot: u32,
    generation: u32,
}

/// A point in time since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// Everything about a node but its kind, its names and its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, with the set-uid, set-gid and sticky bits: `0o7777` at most.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The last change.
    pub mtime: Timestamp,
    /// Extended attributes by their whole names, for example `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Attributes {
    fn memory(&self) -> u64 {
        self.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file of this many bytes.
    File {
        /// The size in bytes.
        size: u64,
    },
    /// A symbolic link to this target.
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

impl Kind<'_> {
    /// The kind as in `st_mode`.
    pub(crate) fn mode_bits(&self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice { .. } => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice { .. } => 0o060_000,
            Self::File { .. } => 0o100_000,
            Self::Symlink(_) => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The kind as in a directory entry.
    pub(crate) fn file_type(&self) -> u8 {
        match self {
            Self::File { .. } => 1,
            Self::Directory => 2,
            Self::CharDevice { .. } => 3,
            Self::BlockDevice { .. } => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink(_) => 7,
        }
    }
}

/// Blocks of data in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// Whether a name was put where it is in the layer that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// In an earlier layer.
    Old,
    /// In this layer.
    New,
}

/// A directory's entries.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) parent: NodeId,
    pub(crate) depth: u32,
    pub(crate) children: BTreeMap<Box<[u8]>, Name>,
}

/// What a name in a directory means, and the layer in which it was put there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name {
    pub(crate) node: NodeId,
    pub(crate) layer: u32,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    Directory(Directory),
    File { size: u64, extent: Extent },
    Symlink(Box<[u8]>),
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
    Fifo,
    Socket,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) payload: Payload,
    /// Names of this node; a directory has one.
    pub(crate) links: u32,
}

impl Node {
    pub(crate) fn kind(&self) -> Kind<'_> {
        match &self.payload {
            Payload::Directory(_) => Kind::Directory,
            Payload::File { size, .. } => Kind::File { size: *size },
            Payload::Symlink(target) => Kind::Symlink(target),
            Payload::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
            Payload::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
            Payload::Fifo => Kind::Fifo,
            Payload::Socket => Kind::Socket,
        }
    }

    fn memory(&self) -> u64 {
        let target = if let Payload::Symlink(target) = &self.payload { target.len() as u64 } else { 0 };
        self.attributes.memory() + target
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    node: Option<Node>,
}

/// All nodes. Slots of removed ones are used again; the generation tells an old id from a new one.
#[derive(Debug)]
pub(crate) struct Tree {
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: u32,
    names: u32,
    memory: u64,
    /// The layer that names are put in now.
    layer: u32,
    limits: Limits,
}

impl Tree {
    pub(crate) const ROOT: NodeId = NodeId { slot: 0, generation: 0 };

    pub(crate) fn new(limits: Limits) -> Self {
        let directory = Directory { parent: Self::ROOT, depth: 0, children: BTreeMap::new() };
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        let root = Node { attributes, payload: Payload::Directory(directory), links: 1 };
        let slots = vec![Slot { generation: 0, node: Some(root) }];
        Self { slots, free: Vec::new(), live: 1, names: 0, memory: 0, layer: 0, limits }
    }

    /// How many slots there are; ids are below this.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn live(&self) -> u32 {
        self.live
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, Error> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.node.as_ref()).ok_or(Error::Gone)
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Error> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation);
        slot.and_then(|slot| slot.node.as_mut()).ok_or(Error::Gone)
    }

    pub(crate) fn directory(&self, id: NodeId) -> Result<&Directory, Error> {
        match &self.node(id)?.payload {
            Payload::Directory(directory) => Ok(directory),
            _ => Err(Error::NotADirectory),
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> Result<&mut Directory, Error> {
        match &mut self.node_mut(id)?.payload {
            Payload::Directory(directory) => Ok(directory),
            _ => Err(Error::NotADirectory),
        }
    }

    /// Refuses a name that cannot be added to this directory, and any name once there are too many.
    pub(crate) fn check_name(&self, dir: NodeId, name: &[u8]) -> Result<(), Error> {
        let wrong = name.is_empty()
            || name == b"."
            || name == b".."
            || name.len() > NAME_MAX
            || name.iter().any(|byte| matches!(byte, b'/' | 0));
        if wrong {
            return Err(Error::Name { length: name.len() });
        }
        if self.directory(dir)?.children.contains_key(name) {
            return Err(Error::Exists);
        }
        if self.names >= self.limits.entries {
            return Err(Error::TooManyEntries { limit: self.limits.entries });
        }
        Ok(())
    }

    /// Adds a node under a checked name.
    pub(crate) fn insert(&mut self, dir: NodeId, name: &[u8], node: Node) -> Result<NodeId, Error> {
        self.charge(node.memory() + name.len() as u64)?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).map_err(|_| Error::TooManyEntries { limit: u32::MAX })?
            }
        };
        let place = &mut self.slots[slot as usize];
        place.node = Some(node);
        let id = NodeId { slot, generation: place.generation };
        self.live += 1;
        self.names += 1;
        let layer = self.layer;
        self.directory_mut(dir)?.children.insert(name.into(), Name { node: id, layer });
        Ok(id)
    }

    /// Makes an empty directory for [`Tree::insert`].
    pub(crate) fn new_directory(&self, parent: NodeId) -> Result<Directory, Error> {
        let depth = self.directory(parent)?.depth + 1;
        if depth > self.limits.depth {
            return Err(Error::TooDeep { limit: self.limits.depth });
        }
        Ok(Directory { parent, depth, children: BTreeMap::new() })
    }

    /// Gives a node one more name, which was checked.
    pub(crate) fn link(&mut self, dir: NodeId, name: &[u8], target: NodeId) -> Result<(), Error> {
        if matches!(self.node(target)?.payload, Payload::Directory(_)) {
            return Err(Error::LinkedDirectory);
        }
        self.charge(name.len() as u64)?;
        self.node_mut(target)?.links += 1;
        self.names += 1;
        let layer = self.layer;
        self.directory_mut(dir)?.children.insert(name.into(), Name { node: target, layer });
        Ok(())
    }

    /// Begins the next layer: names that are there become old.
    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Makes a name one of this layer.
    pub(crate) fn mark(&mut self, dir: NodeId, name: &[u8]) -> Result<(), Error> {
        let layer = self.layer;
        self.directory_mut(dir)?.children.get_mut(name).ok_or(Error::Gone)?.layer = layer;
        Ok(())
    }

    pub(crate) fn age(&self, name: Name) -> Age {
        if name.layer == self.layer { Age::New } else { Age::Old }
    }

    pub(crate) fn set_attributes(&mut self, id: NodeId, attributes: Attributes) -> Result<(), Error> {
        let before = self.node(id)?.attributes.memory();
        self.charge(attributes.memory())?;
        self.memory = self.memory.saturating_sub(before);
        self.node_mut(id)?.attributes = attributes;
        Ok(())
    }

    /// Removes a name and all below it; returns the data that nobody names any more, or nothing if there is no such name.
    pub(crate) fn remove(&mut self, dir: NodeId, name: &[u8]) -> Result<Option<Vec<Extent>>, Error> {
        let Some(Name { node, .. }) = self.directory_mut(dir)?.children.remove(name) else { return Ok(None) };
        self.memory = self.memory.saturating_sub(name.len() as u64);
        let (mut freed, mut pending) = (Vec::new(), vec![node]);
        while let Some(id) = pending.pop() {
            self.names -= 1;
            let node = self.node_mut(id)?;
            node.links = node.links.saturating_sub(1);
            if node.links > 0 {
                continue;
            }
            match self.release(id).payload {
                Payload::Directory(directory) => {
                    let names: u64 = directory.children.keys().map(|name| name.len() as u64).sum();
                    self.memory = self.memory.saturating_sub(names);
                    pending.extend(directory.children.into_values().map(|name| name.node));
                }
                Payload::File { extent, .. } if extent.count > 0 => freed.push(extent),
                _ => {}
            }
        }
        Ok(Some(freed))
    }

    fn release(&mut self, id: NodeId) -> Node {
        let slot = &mut self.slots[id.slot as usize];
        let node = slot.node.take().expect("the caller saw the node");
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.live -= 1;
        self.memory = self.memory.saturating_sub(node.memory());
        node
    }

    fn charge(&mut self, bytes: u64) -> Result<(), Error> {
        let memory = self.memory.saturating_add(bytes);
        if memory > self.limits.metadata {
            return Err(Error::TooMuchMetadata { limit: self.limits.metadata });
        }
        self.memory = memory;
        Ok(())
    }
}
