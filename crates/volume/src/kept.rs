//! What a guest may keep of a file's content from one open to the next.
//!
//! A file is as it was if its change time is: nobody can set that. It goes on by ticks, so one that is of this
//! very tick says nothing yet: another change may follow in it. What a program of the host writes through a mapping of the file is seen in it once the host's kernel
//! writes that back, as over any network file system.

use crate::control::Cache;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Files that are remembered at the same time. The content of others is read anew.
const MOST: usize = 1 << 16;

/// What a file was when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) changed_ns: i64,
    pub(crate) size: u64,
}

/// Which opens leave a guest what it has.
#[derive(Debug)]
pub(crate) enum Kept {
    /// None: nothing is kept anyway, or the library says so itself.
    AsItIs,
    /// All: nobody else writes.
    All,
    /// Those of files that are as they were at the last open.
    Unchanged(Seen),
}

impl Kept {
    pub(crate) fn of(cache: Cache) -> Self {
        match cache {
            Cache::None | Cache::Still => Self::AsItIs,
            Cache::Writeback => Self::All,
            Cache::Auto => Self::Unchanged(Seen::default()),
        }
    }
}

/// What files were when they were opened last.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<HashMap<u64, Stamp>>);

impl Seen {
    /// Whether a file that is opened now is as it was; from now on this is the last time. `now_ns` is the time of files
    /// ([`fcvm_sys::stamp`]) from before it was looked at.
    pub(crate) fn is_unchanged(&self, node: u64, stamp: Stamp, now_ns: i64) -> bool {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stamp.changed_ns >= now_ns {
            files.remove(&node);
            return false;
        }
        if files.len() >= MOST && !files.contains_key(&node) {
            files.clear();
        }
        files.insert(node, stamp) == Some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000_000;

    fn stamp(changed_ns: i64) -> Stamp {
        Stamp { changed_ns, size: 1 }
    }

    #[test]
    fn only_what_is_as_it_was_at_the_last_open_is_kept() {
        let seen = Seen::default();
        assert!(!seen.is_unchanged(1, stamp(5), NOW));
        assert!(seen.is_unchanged(1, stamp(5), NOW) && !seen.is_unchanged(2, stamp(5), NOW));
        assert!(!seen.is_unchanged(1, stamp(6), NOW) && seen.is_unchanged(1, stamp(6), NOW));
        assert!(!seen.is_unchanged(1, Stamp { size: 2, ..stamp(6) }, NOW));
    }

    #[test]
    fn a_change_in_the_tick_of_an_open_may_be_followed_by_another_with_the_same_time() {
        let seen = Seen::default();
        let fresh = stamp(NOW);
        assert!(!seen.is_unchanged(1, fresh, NOW) && !seen.is_unchanged(1, fresh, NOW));
        assert!(!seen.is_unchanged(1, fresh, NOW + 1), "it may have been read before it changed once more");
        assert!(seen.is_unchanged(1, fresh, NOW + 2));
    }

    #[test]
    fn no_more_files_are_remembered_than_there_is_room_for() {
        let seen = Seen::default();
        (0..MOST as u64 + 5).for_each(|node| assert!(!seen.is_unchanged(node, stamp(5), NOW)));
        assert_eq!(seen.0.lock().unwrap().len(), 5);
    }
}
