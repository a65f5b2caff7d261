//! Which parts of a snapshot's memory a machine that starts from it uses at once: read in ahead of it.
//!
//! A file of lines `FIRST COUNT`, in pages. It is advice: what is damaged or beyond the memory is passed over, and no
//! digest is kept of it.

use super::{SnapshotDir, name};
use crate::{Error, file};
use rustix::fs::Advice;
use std::fmt::Write;
use std::fs::{self, File};
use std::num::NonZeroU64;

const PAGE: u64 = 4096;
/// More lines than any machine of ours has parts.
const MOST: usize = 1 << 20;

impl SnapshotDir {
    /// Writes down which pages are used: first page and number of each part.
    pub fn set_working_set(&self, parts: &[(u64, u64)]) -> Result<(), Error> {
        let mut text = String::new();
        for (first, count) in parts {
            writeln!(text, "{first} {count}").expect("a string takes all that is written");
        }
        file::write_atomic(&self.path(name::WORKING_SET), text.as_bytes(), 0o600)
    }

    /// Which pages machines use at once, as far as that is known: first page and number of each part.
    pub fn working_set(&self) -> Vec<(u64, u64)> {
        let text = fs::read_to_string(self.path(name::WORKING_SET)).unwrap_or_default();
        text.lines().take(MOST).filter_map(part).collect()
    }

    /// Has the kernel read into its page cache what machines use at once, if that is known.
    pub fn read_ahead_working_set(&self) {
        let Ok(memory) = File::open(self.path(name::MEMORY)) else { return };
        for (first, count) in self.working_set() {
            let (Some(start), Some(length)) = (first.checked_mul(PAGE), count.checked_mul(PAGE)) else { continue };
            // That it is advice goes for the kernel as well.
            let _ = rustix::fs::fadvise(&memory, start, NonZeroU64::new(length), Advice::WillNeed);
        }
    }
}

fn part(line: &str) -> Option<(u64, u64)> {
    let (first, count) = line.split_once(' ')?;
    Some((first.parse().ok()?, count.parse().ok()?))
}
