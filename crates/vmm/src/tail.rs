//! The last lines of a monitor's standard error.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is kept, in bytes.
const KEPT: usize = 4096;

/// What a monitor wrote last; clones show the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
}

impl Tail {
    /// Reads to the end. An error is an end.
    pub(crate) async fn follow(self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&buffer[..count]);
            let excess = kept.len().saturating_sub(KEPT);
            kept.drain(..excess);
        }
    }

    /// Returns it as one line without control characters, or a clause that says that there is nothing.
    pub(crate) fn text(&self) -> String {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.join("; ").replace(char::is_control, "") {
            line if line.is_empty() => "it said nothing".to_owned(),
            line => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_as_one() {
        let tail = Tail::default();
        assert_eq!(tail.text(), "it said nothing");
        let noise = "x".repeat(KEPT) + "\nqemu: no such\tfile\n\nqemu: done\n";
        tail.clone().follow(noise.as_bytes()).await;
        assert!(tail.text().ends_with("x; qemu: no suchfile; qemu: done"), "{}", tail.text());
        assert!(tail.text().len() <= KEPT + 8);
    }
}
