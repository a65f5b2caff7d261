//! Layers: tar archives that are merged, one onto the other, into one tree of files.
//!
//! ```text
//! blob ─► compression (gzip, zstd, bzip2, xz, plain) ─► the archive room (headers, pax, sparse) ─► merge (whiteouts, links…) ─► erofs::Writer
//! ```
//! Everything is one stream: a layer is never unpacked onto the host, and memory holds names and attributes only. Every
//! archive is hostile until shown otherwise; what it may cost is in [`Limits`].

mod compression;
mod merge;
mod path;

pub(crate) use compression::decompress;
pub use compression::decompress_archive;
pub(crate) use merge::{Merge, keeps_xattr};

use crate::Error;
use std::io::{self, Read};

/// What the layers of one image may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The tree and its disk.
    pub disk: fcvm_erofs::Limits,
    /// Entries of all layers' archives together, those that are replaced later included.
    pub archive_entries: u64,
    /// Bytes of all layers together when they are no longer compressed.
    pub unpacked: u64,
}

impl Default for Limits {
    /// The defaults of the disk, 4 Mi entries, 128 GiB unpacked.
    fn default() -> Self {
        Self { disk: fcvm_erofs::Limits::default(), archive_entries: 4 << 20, unpacked: 128 << 30 }
    }
}

/// Says which entry the disk could not take; failures of the disk itself stay what they are.
pub(crate) fn disk_error(entry: &[u8], error: fcvm_erofs::Error) -> Error {
    match error {
        fcvm_erofs::Error::Read(error) => unreadable(error),
        fcvm_erofs::Error::Truncated { .. } => unreadable(io::ErrorKind::UnexpectedEof.into()),
        error @ fcvm_erofs::Error::Write(_) => Error::Disk(error),
        refused => Error::hostile(entry, refused.to_string()),
    }
}

/// Takes one of our errors out of a stream's, or says that the archive cannot be read.
pub(crate) fn unreadable(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(ours) => ours,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => fcvm_archive::Error::Ended.into(),
        Err(error) => Error::malformed("a tar archive", error),
    }
}

impl From<fcvm_archive::Error> for Error {
    fn from(error: fcvm_archive::Error) -> Self {
        use fcvm_archive::Error;
        match error {
            Error::Hostile { entry, reason } => Self::Hostile { entry, reason },
            Error::Malformed(what) => Self::malformed("a tar archive", format!("{what} cannot be understood")),
            Error::Ended => Self::malformed("a tar archive", "it ends early"),
            Error::Read(error) => unreadable(error),
            // What reading has nothing to do with.
            other => Self::malformed("a tar archive", other),
        }
    }
}

/// A reader that ends in an error when more comes than is allowed.
pub(crate) struct Limited<'a, R> {
    pub(crate) inner: R,
    /// What is left of the limit, shared by all layers of an image.
    pub(crate) left: &'a mut u64,
}

impl<R: Read> Read for Limited<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => *self.left = left,
            None => return Err(io::Error::other(Error::hostile(b"", "the layers unpack to more than is allowed"))),
        }
        Ok(count)
    }
}
