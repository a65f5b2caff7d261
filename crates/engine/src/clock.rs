//! The clock of a guest that slept in a snapshot, set to the host's.
//!
//! A time that is sent is old when it arrives, under load by more than can be tolerated. So the host asks for the guest's
//! time, which was read between the question and the answer, and tells it how far to move.

use crate::Error;
use crate::link::answer;
use crate::run::now_ns;
use fcvm_link::Session;
use fcvm_proto::message::{HostRequest, Time};

/// Questions at most: on a busy host the best of so many is good enough.
const MOST: u32 = 16;
/// As near as is tried for.
const NEAR_NS: i64 = 2_000_000;
/// How far a restored clock may be off that could be asked.
const TOLERABLE_NS: i64 = 1_000_000_000;

/// How far a clock is ahead of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    off_ns: i64,
    /// It may be that much more or less.
    doubt_ns: i64,
}

impl Reading {
    /// The guest read its clock at some time between two readings of the host's.
    fn between(before_ns: i64, guest_ns: i64, after_ns: i64) -> Self {
        let doubt_ns = (after_ns.saturating_sub(before_ns) / 2).max(0);
        Self { off_ns: guest_ns.saturating_sub(before_ns.saturating_add(doubt_ns)), doubt_ns }
    }

    /// What is known after a move.
    fn moved(self, by_ns: i64) -> Self {
        Self { off_ns: self.off_ns.saturating_add(by_ns), ..self }
    }

    fn or_better(self, other: Self) -> Self {
        if other.doubt_ns < self.doubt_ns { other } else { self }
    }

    /// How far to move: not at all where nobody would notice.
    fn shift_ns(self) -> i64 {
        if self.off_ns.saturating_abs() <= NEAR_NS { 0 } else { self.off_ns.saturating_neg() }
    }

    fn is_good(self) -> bool {
        self.shift_ns() == 0 && self.doubt_ns <= 2 * NEAR_NS
    }
}

/// Sets the guest's clock. Returns how far it is ahead of the host's now.
pub(crate) async fn set(session: &Session) -> Result<i64, Error> {
    let mut known = read(session, 0).await?;
    for _question in 1..MOST {
        if known.is_good() {
            break;
        }
        let shift_ns = known.shift_ns();
        known = known.moved(shift_ns).or_better(read(session, shift_ns).await?);
    }
    if known.off_ns.saturating_abs() > TOLERABLE_NS.saturating_add(known.doubt_ns) {
        let reason = format!("it is off by {} ms and cannot be set", known.off_ns / 1_000_000);
        return Err(Error::NotAwake { step: "clock".to_owned(), reason });
    }
    Ok(known.off_ns)
}

async fn read(session: &Session, shift_ns: i64) -> Result<Reading, Error> {
    let before_ns = now_ns();
    let Time { now_ns: guest_ns } = answer(session, &HostRequest::Clock { shift_ns }).await?;
    Ok(Reading::between(before_ns, guest_ns, now_ns()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_says_less_than_a_quick_one() {
        let slow = Reading::between(1_000_000_000, 1_030_000_000, 1_080_000_000);
        assert_eq!(slow, Reading { off_ns: -10_000_000, doubt_ns: 40_000_000 });
        assert!(!slow.is_good());
        let quick = Reading::between(0, 500_000, 1_000_000);
        assert_eq!((quick.off_ns, quick.doubt_ns, quick.shift_ns()), (0, 500_000, 0));
        assert_eq!(slow.moved(10_000_000).or_better(quick), quick);
        assert_eq!(quick.or_better(slow), quick);
        assert!(quick.is_good());
    }

    #[test]
    fn a_clock_is_moved_by_what_it_is_off_and_a_liar_overflows_nothing() {
        let behind = Reading::between(0, -20_000_000, 1_000_000);
        assert_eq!(behind.shift_ns(), 20_500_000);
        assert_eq!(behind.moved(behind.shift_ns()).off_ns, 0);
        for guest_ns in [i64::MIN, i64::MAX] {
            let liar = Reading::between(5, guest_ns, 4);
            assert!(!liar.moved(liar.shift_ns()).moved(i64::MAX).is_good());
        }
    }
}
