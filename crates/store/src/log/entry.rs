//! One line of the log file, both ways.

use jiff::Timestamp;

/// Which of the container's streams wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output: a line, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was received.
    pub at: Timestamp,
    /// Who wrote it.
    pub source: Source,
    /// The bytes, with the line feed if there was one.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Whether the line ends here.
    pub fn ends_line(&self) -> bool {
        self.bytes.last() == Some(&b'\n')
    }

    /// Parses a line of the file without its line feed; none if it is not one (a crash may cut the last).
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let at = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let source = match fields.next()? {
            b"stdout" => Source::Stdout,
            b"stderr" => Source::Stderr,
            _ => return None,
        };
        let whole = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let mut bytes = fields.next()?.to_vec();
        if whole {
            bytes.push(b'\n');
        }
        Some(Self { at, source, bytes })
    }
}

/// Appends `bytes` as lines of the file.
pub(super) fn encode(stamp: &str, source: Source, bytes: &[u8], out: &mut Vec<u8>) {
    let source = match source {
        Source::Stdout => " stdout ",
        Source::Stderr => " stderr ",
    };
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (tag, text) = match piece.split_last() {
            Some((b'\n', text)) => ("F ", text),
            _ => ("P ", piece),
        };
        for part in [stamp.as_bytes(), source.as_bytes(), tag.as_bytes(), text, b"\n"] {
            out.extend_from_slice(part);
        }
    }
}
