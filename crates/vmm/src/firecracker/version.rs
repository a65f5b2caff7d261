//! Which Firecracker this is, and whether it is new enough.
//!
//! Its bodies refuse unknown fields, so a field of a newer version is sent to that version only.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

/// What it says of itself is a line of twenty letters.
const LONGEST: u64 = 4096;

/// A version, for example `1.17.0-dev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    text: String,
    numbers: (u32, u32),
}

impl Version {
    /// The oldest that is driven, by major and minor number: before it a second save of a machine with more than 3 GiB
    /// could lose pages.
    pub const OLDEST: (u32, u32) = (1, 15);

    /// Reads a version as Firecracker writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
        let numbers = numbers.next().zip(numbers.next())?;
        Some(Self { text: text.to_owned(), numbers })
    }

    /// Asks a program for its version; nothing if it is no Firecracker.
    pub(super) fn of(program: &Path) -> Option<Self> {
        let mut command = Command::new(program);
        command.arg("--version").env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take()?.take(LONGEST)).read_line(&mut line);
        // It has said all; what else it would do is of no interest.
        let _has_ended_already = child.kill();
        let _its_code_says_nothing = child.wait();
        read.ok()?;
        Self::parse(line.trim().strip_prefix("Firecracker v")?)
    }

    /// Whether it is this version or a later one.
    pub fn is_at_least(&self, numbers: (u32, u32)) -> bool {
        self.numbers >= numbers
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A Firecracker that is not driven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// It is too old.
    #[error("Firecracker {found} is too old, {}.{} is the oldest that is supported", Version::OLDEST.0, Version::OLDEST.1)]
    Old {
        /// Its version.
        found: Version,
    },
    /// It did not say which version it is.
    #[error("the program {} does not say that it is Firecracker", program.display())]
    Unknown {
        /// The program.
        program: std::path::PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(directory: &Path, script: &str) -> std::path::PathBuf {
        let path = directory.join("firecracker");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (text, oldest) in
            [("1.15.0", true), ("1.17.0-dev", true), ("2.0.0", true), ("1.14.4", false), ("0.99.1", false)]
        {
            assert_eq!(Version::parse(text).unwrap().is_at_least(Version::OLDEST), oldest, "{text}");
        }
        for text in ["", "1", "nonsense", "v1.16.0"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_program_is_asked_and_one_that_is_another_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let asked = |script| Version::of(&program(directory.path(), script)).map(|version| version.to_string());
        let real = "printf 'Firecracker v1.16.1\\n\\n2026-01-01T00:00:00 Firecracker exiting successfully.\\n'";
        assert_eq!(asked(real).as_deref(), Some("1.16.1"));
        assert_eq!(asked("echo Jailer v1.16.1"), None);
        assert_eq!(asked("exit 1"), None);
        // Not all is read, and it is not waited for.
        assert_eq!(asked("yes | tr -d '\\n'"), None);
    }
}
