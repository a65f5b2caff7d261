//! virtiofsd's tables, as far as a volume has to go on without some of them.
//!
//! These are the types that its version 1.14 writes (`passthrough/device_state/serialized.rs`), in its own encoding
//! (postcard), where order is all that counts. They are decoded and encoded here and nowhere else; that version is the only
//! one that this build takes.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;

/// All of them, by their version.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tables {
    V1(Files),
    V2(Files, HashMap<u64, String>),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Files {
    inodes: Vec<Inode>,
    next_inode: u64,
    handles: Vec<Handle>,
    next_handle: u64,
    agreed: Agreed,
}

/// What INIT agreed on.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Agreed {
    writeback: bool,
    announce_submounts: bool,
    posix_acl: bool,
    groups: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Inode {
    id: u64,
    count: u64,
    location: Location,
    file_handle: Option<FileHandle>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Location {
    Root,
    Path { parent: u64, name: String },
    Invalid,
    FullPath { name: String },
    FileHandle { handle: FileHandle },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileHandle {
    mount: u64,
    kind: i32,
    handle: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Handle {
    id: u64,
    inode: u64,
    source: Source,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Source {
    OpenInode { flags: i32 },
}

/// Numbers of one server are so far from those of the next that neither can take the other's for its own.
const STRIDE: u64 = 1 << 40;

/// What the library counts for a root that nobody has looked up.
const ROOT_COUNT: u64 = 2;

impl Tables {
    pub(crate) fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }

    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(io::Error::other)
    }

    /// The tables of a server that knows nothing but the root, in the place of one that is gone with all that it knew: what
    /// the guest still names by its old numbers does not exist.
    pub(crate) fn renewed(mut self) -> Self {
        let files = self.files();
        let first = (files.next_inode.max(files.next_handle) / STRIDE).saturating_add(1).saturating_mul(STRIDE);
        files.inodes.retain_mut(|inode| {
            (inode.count, inode.file_handle) = (ROOT_COUNT, None);
            inode.location == Location::Root
        });
        files.handles.clear();
        (files.next_inode, files.next_handle) = (first, first);
        self
    }

    /// The tables of a tree that lies elsewhere: files are who their names say.
    pub(crate) fn elsewhere(mut self) -> Self {
        for inode in &mut self.files().inodes {
            inode.file_handle = None;
        }
        self
    }

    /// All files but the root: their numbers, how often the guest was told of them, and where they are if that is known.
    pub(crate) fn known(&self) -> impl Iterator<Item = (u64, u64, Option<(u64, &[u8])>)> + Clone {
        let (Self::V1(files) | Self::V2(files, _)) = self;
        files.inodes.iter().filter(|inode| inode.location != Location::Root).map(|inode| {
            let place = match &inode.location {
                Location::Path { parent, name } => Some((*parent, name.as_bytes())),
                _ => None,
            };
            (inode.id, inode.count, place)
        })
    }

    fn files(&mut self) -> &mut Files {
        match self {
            Self::V1(files) | Self::V2(files, _) => files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        let handle = || FileHandle { mount: 30, kind: 1, handle: vec![1, 2, 3, 4] };
        let inode = |id, count, location| Inode { id, count, location, file_handle: Some(handle()) };
        Tables::V2(
            Files {
                inodes: vec![
                    inode(1, 5, Location::Root),
                    inode(2, 1, Location::Path { parent: 1, name: "file".to_owned() }),
                    inode(3, 1, Location::Invalid),
                ],
                next_inode: 4,
                handles: vec![Handle { id: 0, inode: 2, source: Source::OpenInode { flags: 2 } }],
                next_handle: 1,
                agreed: Agreed { writeback: false, announce_submounts: false, posix_acl: true, groups: false },
            },
            HashMap::new(),
        )
    }

    #[test]
    fn tables_are_read_as_they_were_written() {
        assert_eq!(Tables::decode(&tables().encode().unwrap()).unwrap(), tables());
        assert!(Tables::decode(&[9]).is_err());
        let known = tables();
        let known: Vec<_> = known.known().collect();
        assert_eq!(known, [(2, 1, Some((1, &b"file"[..]))), (3, 1, None)]);
    }

    #[test]
    fn a_server_that_begins_anew_knows_the_root_and_gives_no_number_twice() {
        let mut renewed = tables().renewed().renewed();
        let files = renewed.files();
        assert_eq!((files.inodes.len(), files.inodes[0].id, files.inodes[0].count), (1, 1, ROOT_COUNT));
        assert!(files.handles.is_empty());
        assert_eq!(files.next_inode, 2 << 40);
    }

    #[test]
    fn elsewhere_names_alone_tell_files() {
        let mut elsewhere = tables().elsewhere();
        assert_eq!(elsewhere.files().inodes.len(), 3);
        assert!(elsewhere.files().inodes.iter().all(|inode| inode.file_handle.is_none()));
    }
}
