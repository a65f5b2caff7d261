//! An entry of an archive.

use crate::sparse::Sparse;
use std::collections::BTreeMap;

/// A point in time since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// Everything about a file but its kind, its name and its bytes.
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

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// One more name of an entry before it.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// As it was written: it may be absolute and have `..` in it.
    pub name: Vec<u8>,
    /// Of links.
    pub target: Vec<u8>,
    /// The file's size in bytes, holes included.
    pub size: u64,
    /// Its owner, mode, time and more.
    pub attributes: Attributes,
    /// Major and minor number.
    pub device: (u32, u32),
    pub(crate) sparse: Option<Sparse>,
}

impl Entry {
    /// An entry without bytes.
    pub fn of(kind: EntryKind, name: Vec<u8>, attributes: Attributes) -> Self {
        Self { kind, name, target: Vec::new(), size: 0, attributes, device: (0, 0), sparse: None }
    }
}
