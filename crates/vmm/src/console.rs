//! The guest's serial console: read all the time, kept within bounds.
//!
//! A hostile guest may write for ever. So the last [`TAIL`] bytes are kept in memory, the first [`FILE_LIMIT`] in a
//! file, and nothing is ever interpreted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much of the console's end is kept, in bytes.
const TAIL: usize = 64 << 10;

/// How much of the console's beginning goes to its file, in bytes: a kernel's whole boot is half of it.
const FILE_LIMIT: u64 = 256 << 10;

/// The file in the run directory that keeps the console's beginning.
pub const CONSOLE_FILE: &str = "console.log";

/// A handle on a console; clones show the same one.
#[derive(Clone, Debug, Default)]
pub struct Console {
    kept: Arc<Mutex<VecDeque<u8>>>,
}

impl Console {
    /// Returns the end of what was written, at most 64 KiB, as text: control characters but line feeds and tabs are
    /// left out, so that it can go to a terminal.
    pub fn tail(&self) -> String {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(kept.make_contiguous());
        text.chars().filter(|c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
    }

    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(bytes);
        let excess = kept.len().saturating_sub(TAIL);
        kept.drain(..excess);
    }

    /// Reads a console to its end.
    pub(crate) async fn follow(self, mut source: impl AsyncRead + Unpin, mut file: Beginning) {
        let mut buffer = vec![0; 4096];
        loop {
            match source.read(&mut buffer).await {
                Ok(0) => return,
                Ok(count) => {
                    self.keep(&buffer[..count]);
                    file.write(&buffer[..count]);
                }
                Err(error) => {
                    tracing::debug!(%error, "the console broke off");
                    return;
                }
            }
        }
    }
}

/// The file with the console's beginning.
#[derive(Debug)]
pub(crate) struct Beginning {
    file: Option<File>,
    left: u64,
}

impl Beginning {
    /// Creates the file anew.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Some(File::create(path)?), left: FILE_LIMIT })
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if let Err(error) = file.write_all(&bytes[..room]) {
            tracing::warn!(%error, "the console's file ends here");
            self.left = 0;
        }
        self.left = self.left.saturating_sub(room as u64);
        if self.left == 0 {
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn followed(bytes: &[u8]) -> (Console, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CONSOLE_FILE);
        let console = Console::default();
        console.clone().follow(bytes, Beginning::create(&path).unwrap()).await;
        (console, std::fs::read(path).unwrap())
    }

    #[tokio::test]
    async fn a_flood_is_kept_within_bounds_at_both_ends() {
        let mut flood = vec![b'a'; 1 << 20];
        flood.extend(b"the end");
        let (console, file) = followed(&flood).await;
        assert_eq!(console.tail().len(), TAIL);
        assert!(console.tail().ends_with("athe end"));
        assert_eq!(file.len() as u64, FILE_LIMIT);
    }

    #[tokio::test]
    async fn what_would_steer_a_terminal_is_left_out_of_the_text_only() {
        let (console, file) = followed(b"a\x1b[2Jb\r\n\xffc\x07").await;
        assert_eq!(console.tail(), "a[2Jb\n\u{fffd}c");
        assert_eq!(file, b"a\x1b[2Jb\r\n\xffc\x07");
    }
}
