//! What Firecracker counts: a line of JSON each minute, and one when it ends by itself, kept in a file of the VM.
//!
//! Each line is what came since the one before. The monitor is not trusted, so the file has a limit: at the end of the line
//! that reaches it, it begins anew. A guest that runs for hours is left with the last of them.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The file in the run directory.
pub const METRICS_FILE: &str = "firecracker-metrics.json";

/// How long the file may become, in bytes; a line has about six thousand.
const LIMIT: u64 = 1 << 20;

/// How much longer than that before it begins anew within a line.
const LONGEST_LINE: u64 = 64 << 10;

/// The file of the counts.
#[derive(Debug)]
pub(super) struct Counts {
    file: File,
    length: u64,
}

impl Counts {
    /// Makes the file, empty.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(directory.join(METRICS_FILE))?, length: 0 })
    }

    /// Keeps all that comes, to its end. An error is an end.
    pub(super) async fn follow(mut self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 8 << 10];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            if let Err(error) = self.keep(&buffer[..count]) {
                // Read on: a monitor must not wait for its reader.
                tracing::debug!(%error, "counts of the monitor are lost");
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        if self.length >= LIMIT && bytes.ends_with(b"\n") || self.length >= LIMIT + LONGEST_LINE {
            self.length = 0;
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whole_lines_are_kept_within_a_limit_also_of_one_that_never_ends() {
        let dir = tempfile::tempdir().unwrap();
        let kept = || std::fs::read(dir.path().join(METRICS_FILE)).unwrap();
        Counts::create(dir.path()).unwrap().follow(&b"{\"a\":1}\n{\"a\":2}\n"[..]).await;
        assert_eq!(kept(), b"{\"a\":1}\n{\"a\":2}\n");
        let mut counts = Counts::create(dir.path()).unwrap();
        for _ in 0..3 * LIMIT / 10_000 {
            counts.keep(&[[b'x'; 9999].as_slice(), b"\n"].concat()).unwrap();
            assert!(kept().len() as u64 <= LIMIT && (kept().is_empty() || kept().ends_with(b"\n")));
        }
        Counts::create(dir.path()).unwrap().follow(&vec![b'x'; 5 << 20][..]).await;
        assert!(kept().len() as u64 <= LIMIT + LONGEST_LINE);
    }
}
