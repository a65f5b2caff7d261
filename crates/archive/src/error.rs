//! What can be wrong with an archive.

use std::io;

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
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Ended } else { Self::Read(error) }
    }
}
