//! What the server itself does for its guest, so that the host's echo of it is not told to the guest as news.
//!
//! A deed is noted before it is done. The host queues the event within the system call, so once all events were taken that
//! were there after the deed, its own was among them. Hence no clock: a deed is forgotten after the first turn of taking
//! events that began when it was done. Somebody else's change of the same kind to the same name in between is taken for it.

use std::collections::HashMap;

/// Deeds that are noted at the same time. The echo of what is beyond that is told.
const MOST: usize = 1 << 14;

/// Kinds of events, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const CREATED: Self = Self(1);
    pub(crate) const DELETED: Self = Self(2);
    pub(crate) const LEFT: Self = Self(4);
    pub(crate) const CAME: Self = Self(8);
    pub(crate) const CHANGED: Self = Self(16);

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The place of a deed: a directory, and a name in it.
pub(crate) type Place = (u64, Box<[u8]>);

/// What was done lately.
#[derive(Debug, Default)]
pub(crate) struct Own {
    deeds: HashMap<Place, Deed>,
    turns: u64,
}

#[derive(Debug)]
struct Deed {
    kinds: Kinds,
    under_way: u32,
    /// The turns that had begun when the last was done.
    done_at: u64,
}

impl Own {
    /// Something is about to be done there.
    pub(crate) fn begin(&mut self, place: &Place, kinds: Kinds) {
        if self.deeds.len() >= MOST && !self.deeds.contains_key(place) {
            return;
        }
        let fresh = Deed { kinds, under_way: 0, done_at: 0 };
        let deed = self.deeds.entry(place.clone()).or_insert(fresh);
        deed.kinds = deed.kinds.and(kinds);
        deed.under_way += 1;
    }

    /// It is done.
    pub(crate) fn end(&mut self, place: &Place) {
        if let Some(deed) = self.deeds.get_mut(place) {
            deed.under_way = deed.under_way.saturating_sub(1);
            deed.done_at = self.turns;
        }
    }

    /// Whether an event of these kinds is the echo of a deed.
    pub(crate) fn did(&self, directory: u64, name: &[u8], kinds: Kinds) -> bool {
        // As long as nothing is done no name is copied.
        !self.deeds.is_empty()
            && self.deeds.get(&(directory, name.into())).is_some_and(|deed| deed.kinds.0 & kinds.0 != 0)
    }

    /// All events that are there are about to be taken.
    pub(crate) fn begin_turn(&mut self) {
        self.turns += 1;
    }

    /// They were.
    pub(crate) fn end_turn(&mut self) {
        let turns = self.turns;
        self.deeds.retain(|_, deed| deed.under_way > 0 || deed.done_at >= turns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(own: &mut Own) {
        own.begin_turn();
        own.end_turn();
    }

    #[test]
    fn a_deed_is_known_until_its_event_must_have_been_taken() {
        let mut own = Own::default();
        let place: Place = (1, (*b"file").into());
        own.begin(&place, Kinds::CHANGED);
        turn(&mut own);
        assert!(own.did(1, b"file", Kinds::CHANGED), "it is under way");
        own.begin_turn();
        own.end(&place);
        own.end_turn();
        assert!(own.did(1, b"file", Kinds::CHANGED), "its event may have come after the turn began");
        assert!(!own.did(1, b"file", Kinds::CREATED) && !own.did(2, b"file", Kinds::CHANGED));
        turn(&mut own);
        assert!(!own.did(1, b"file", Kinds::CHANGED));
        assert!(own.deeds.is_empty());
    }

    #[test]
    fn two_deeds_at_one_place_end_when_both_have() {
        let mut own = Own::default();
        let place: Place = (1, (*b"file").into());
        own.begin(&place, Kinds::CHANGED);
        own.begin(&place, Kinds::DELETED);
        own.end(&place);
        turn(&mut own);
        assert!(own.did(1, b"file", Kinds::DELETED));
        own.end(&place);
        turn(&mut own);
        assert!(!own.did(1, b"file", Kinds::DELETED));
    }

    #[test]
    fn no_more_is_noted_than_there_is_room_for() {
        let mut own = Own::default();
        for number in 0..2 * MOST as u64 {
            own.begin(&(number, (*b"x").into()), Kinds::CREATED);
        }
        assert_eq!(own.deeds.len(), MOST);
    }
}
