//! What can be wrong with an archive, or with the files that go into it and come out.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// An archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An entry does what no honest one does, or goes over a limit.
    #[error("the entry {entry:?} is refused: {reason}")]
    Hostile {
        /// The entry's name, shortened.
        entry: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// It cannot be understood.
    #[error("the tar archive is malformed: {0} cannot be understood")]
    Malformed(&'static str),
    /// It ends in the middle.
    #[error("the tar archive ends early")]
    Ended,
    /// Its bytes cannot be had.
    #[error("read the tar archive")]
    Read(#[source] io::Error),
    /// Its bytes cannot be passed on.
    #[error("write the tar archive")]
    Write(#[source] io::Error),
    /// A file cannot be packed or unpacked.
    #[error("{operation} {path:?}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A pipe, a device or a socket.
    #[error("{0:?} is neither a file nor a directory")]
    Neither(PathBuf),
    /// A directory in the place of a file, or a file in that of a directory.
    #[error("cannot put {new} in the place of {old}: {path:?}")]
    Conflict {
        /// What was to be put there.
        new: &'static str,
        /// What is there.
        old: &'static str,
        /// Where.
        path: PathBuf,
    },
}

impl Error {
    /// Refuses an entry; long names are shortened so that the message stays one line.
    pub(crate) fn hostile(entry: &[u8], reason: impl Into<String>) -> Self {
        let text = String::from_utf8_lossy(entry);
        let mut shown: String = text.chars().take(200).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self::Hostile { entry: shown, reason: reason.into() }
    }

    pub(crate) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }

    /// A failed call on an entry.
    pub(crate) fn named(operation: &'static str, name: &[u8], error: Errno) -> Self {
        Self::of_name(operation, name, error.into())
    }

    pub(crate) fn of_name(operation: &'static str, name: &[u8], source: io::Error) -> Self {
        Self::File { operation, path: OsStr::from_bytes(name).into(), source }
    }

    pub(crate) fn conflict(path: &[u8], new: &'static str, old: &'static str) -> Self {
        Self::Conflict { new, old, path: OsStr::from_bytes(path).into() }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Ended } else { Self::Read(error) }
    }
}
