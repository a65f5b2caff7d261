//! Writes read-only file system images (EROFS, uncompressed) without root and in bounded memory, and reads them back.
//!
//! ```text
//! block 0      1..                     meta_blkaddr..
//! ┌───────────┬───────────────────────┬──────────────────────────────────────┐
//! │superblock │ file data, as it came │ big directories │ inodes with xattrs, │
//! │(at 1024)  │ (holes for zeros)     │ and link targets│ small directories   │
//! └───────────┴───────────────────────┴──────────────────────────────────────┘
//! ```
//!
//! Data goes to the output while it streams in; only names and attributes stay in memory, and [`Writer::finish`] appends
//! them behind the data. A file that is removed again leaves a hole, so a stack of layers is merged in one pass. The same
//! calls give the same bytes. The format is that of Linux's `fs/erofs/erofs_fs.h`, without any feature that a 5.4 kernel
//! lacks.
//!
//! Why ours: squashfs writers (`backhand`, `tar2sqfs`) compress, and decompression is the dearest thing in a guest under
//! software emulation; `mkfs.erofs` wants a directory, so unpacked files with their owners, so root. A Debian tree of 205 MB
//! in 9883 entries takes 0.6 s and 218 MB here in 7 MB of memory; `tar2sqfs` takes 60 s and 59 MB with gzip, 0.7 s and 99 MB
//! with lz4. What tar archives and layers mean is not known here but in the `image` room.

mod blocks;
mod format;
mod layout;
mod reader;
mod tree;
mod walk;
mod writer;

pub use reader::{Found, Reader};
pub use tree::{Age, Attributes, Kind, NodeId, Timestamp};
pub use walk::{Contents, Item, Walk};
pub use writer::{Content, Summary, Writer};

use std::io;

/// The longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;
/// The longest target of a symbolic link, in bytes.
pub const TARGET_MAX: usize = 4095;

/// How far an image may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names (of files, directories, links…) at one time.
    pub entries: u32,
    /// Directories in one path.
    pub depth: u32,
    /// The image's length in bytes, holes included.
    pub size: u64,
    /// Names, link targets and extended attributes, in bytes: what is kept in memory.
    pub metadata: u64,
}

impl Default for Limits {
    /// A million entries, 1024 deep, 64 GiB, 256 MiB of metadata.
    fn default() -> Self {
        Self { entries: 1 << 20, depth: 1024, size: 64 << 30, metadata: 256 << 20 }
    }
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output cannot be written.
    #[error("write the image")]
    Write(#[source] io::Error),
    /// A file's contents cannot be read.
    #[error("read a file's contents")]
    Read(#[source] io::Error),
    /// A file's contents ended early.
    #[error("a file's contents end {missing} bytes early")]
    Truncated {
        /// How many bytes are missing.
        missing: u64,
    },
    /// The image grows over [`Limits::size`].
    #[error("the image is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// More nodes than [`Limits::entries`].
    #[error("the image has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u32,
    },
    /// Deeper than [`Limits::depth`].
    #[error("directories are nested deeper than {limit}")]
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// More than [`Limits::metadata`].
    #[error("names and attributes take more than {limit} bytes")]
    TooMuchMetadata {
        /// The limit in bytes.
        limit: u64,
    },
    /// A name is empty, `.`, `..`, too long, or has a slash or a zero byte in it.
    #[error("a name of {length} bytes that no file can have")]
    Name {
        /// Its length.
        length: usize,
    },
    /// A link's target is empty, too long or has a zero byte in it.
    #[error("a link target of {length} bytes that no link can have")]
    Target {
        /// Its length.
        length: usize,
    },
    /// An extended attribute that the format cannot hold.
    #[error("the extended attribute {name:?} cannot be held")]
    Xattr {
        /// Its name.
        name: String,
    },
    /// The directory has an entry of this name.
    #[error("the name is taken")]
    Exists,
    /// The node is no directory.
    #[error("not a directory")]
    NotADirectory,
    /// Directories cannot have two names.
    #[error("a directory cannot be linked")]
    LinkedDirectory,
    /// The node was removed.
    #[error("the node was removed")]
    Gone,
}
