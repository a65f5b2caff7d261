//! Which versions of the protocol a build understands. What changed between them is in `docs/protocol.md`.

use crate::message::{Hello, PROTOCOL, Verdict};
use std::ops::RangeInclusive;

/// The versions that this build speaks.
pub const SPOKEN: RangeInclusive<u32> = 1..=PROTOCOL;

/// Refuses a guest whose protocol is not among `spoken`, with a sentence that says what to do.
pub fn refusal(hello: &Hello, spoken: &RangeInclusive<u32>) -> Option<Verdict> {
    let theirs = hello.protocol;
    let (oldest, newest) = (spoken.start(), spoken.end());
    let advice = match theirs {
        _ if spoken.contains(&theirs) => return None,
        _ if theirs > *newest => "a newer fcvm is needed on the host",
        _ => "the guest must be made anew",
    };
    let reason = format!(
        "the guest's agent {} speaks protocol {theirs} and this host {oldest} to {newest}: {advice}",
        hello.agent
    );
    Some(Verdict::Refused { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(protocol: u32) -> Hello {
        Hello { protocol, agent: "0.1.0".into(), boot_id: "b".into(), generation: 0 }
    }

    #[test]
    fn a_spoken_version_is_not_refused() {
        assert_eq!(refusal(&hello(2), &(2..=4)), None);
        assert_eq!(refusal(&hello(4), &(2..=4)), None);
        assert_eq!(refusal(&hello(PROTOCOL), &SPOKEN), None);
    }

    #[test]
    fn an_older_guest_is_refused_with_advice() {
        let Some(Verdict::Refused { reason }) = refusal(&hello(1), &(2..=4)) else { panic!("not refused") };
        assert_eq!(
            reason,
            "the guest's agent 0.1.0 speaks protocol 1 and this host 2 to 4: the guest must be made anew"
        );
    }

    #[test]
    fn a_newer_guest_is_refused_with_advice() {
        let Some(Verdict::Refused { reason }) = refusal(&hello(5), &(2..=4)) else { panic!("not refused") };
        assert!(reason.ends_with("a newer fcvm is needed on the host"), "{reason}");
    }
}
