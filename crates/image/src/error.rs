//! What can go wrong with an image. Decisions are taken on variants; the command line maps them to hints and exit codes.

use crate::Digest;
use std::io;
use std::path::{Path, PathBuf};

/// An image could not be found, fetched, merged or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A reference cannot be understood.
    #[error("invalid image reference {text:?}: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the registries' configuration or of credentials cannot be understood.
    #[error("{} cannot be understood: {reason}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The image is neither here nor where it was looked for.
    #[error("{reference}: image not known: {reason}")]
    NotFound {
        /// What was asked for.
        reference: String,
        /// Where it was looked for.
        reason: String,
    },
    /// Several images have ids that begin so.
    #[error("several images have ids that begin with {0:?}; give more digits")]
    Ambiguous(String),
    /// A registry wants credentials, or other ones.
    #[error("{registry} denied access to {repository}: {reason}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// What was asked for.
        repository: String,
        /// Its words, or ours.
        reason: String,
    },
    /// A registry could not be reached or answered with nonsense.
    #[error("{operation} {url}: {reason}")]
    Registry {
        /// What was tried, for example `fetch the manifest`.
        operation: &'static str,
        /// Where.
        url: String,
        /// Why it failed.
        reason: String,
    },
    /// The configuration of registries forbids this one.
    #[error("registry {0} is blocked by registries.conf")]
    Blocked(String),
    /// The image exists, but not for this machine.
    #[error("{reference} has no image for {wanted}; it has {}", available.join(", "))]
    WrongPlatform {
        /// What was asked for.
        reference: String,
        /// The platform that was looked for.
        wanted: String,
        /// The platforms that there are.
        available: Vec<String>,
    },
    /// Bytes are not those that were promised.
    #[error("{what} is not what was promised: expected {expected}, got {actual}")]
    DigestMismatch {
        /// Which blob.
        what: String,
        /// The promised digest or size.
        expected: String,
        /// What came.
        actual: String,
    },
    /// A layer does what no honest layer does, or goes over a limit.
    #[error("layer entry {entry:?} is refused: {reason}")]
    Hostile {
        /// The entry's name, shortened.
        entry: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A manifest, configuration, layer or archive cannot be understood.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// Which one.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no room left.
    #[error("no space left for {}", path.display())]
    DiskFull {
        /// What was written.
        path: PathBuf,
    },
    /// The data directory cannot be written.
    #[error("cannot write {}: its file system is read-only", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// A VM uses the image.
    #[error("image {name} is in use by a VM; --force removes both")]
    InUse {
        /// The name or id that was to be removed.
        name: String,
    },
    /// A program of the host that a transport needs is missing or failed.
    #[error("{program} {operation}: {reason}")]
    Program {
        /// The program.
        program: String,
        /// What it was to do.
        operation: String,
        /// Why it did not.
        reason: String,
    },
    /// The disk image cannot hold this.
    #[error("cannot write the image's disk")]
    Disk(#[source] fcvm_erofs::Error),
    /// The work was given up because another part of it failed.
    #[error("cancelled")]
    Cancelled,
    /// A system call on a file failed.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried, for example `read`.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// Wraps a failed call on a file; a full or read-only disk gets the variant of its own.
    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::of_io(operation, path, source)
    }

    pub(crate) fn of_io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::File { operation, path, source },
        }
    }

    pub(crate) fn mismatch(what: impl Into<String>, expected: &Digest, actual: &Digest) -> Self {
        Self::DigestMismatch { what: what.into(), expected: expected.to_string(), actual: actual.to_string() }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Malformed { what: what.into(), reason: reason.to_string() }
    }

    /// Refuses a layer entry; long names are shortened so that the message stays one line.
    pub(crate) fn hostile(entry: &[u8], reason: impl Into<String>) -> Self {
        let text = String::from_utf8_lossy(entry);
        let mut shown: String = text.chars().take(200).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self::Hostile { entry: shown, reason: reason.into() }
    }
}
