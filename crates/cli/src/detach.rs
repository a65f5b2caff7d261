//! The keys by which someone leaves a process alone: `--detach-keys`, found among all that is typed.

use crate::error::Failure;
use std::str::FromStr;

/// A sequence of keys; an empty one is never typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

/// Keys with `ctrl-`, by the byte that a terminal sends for them.
const CONTROL: &[u8] = b"@abcdefghijklmnopqrstuvwxyz[\\]^_";

impl DetachKeys {
    /// No keys: whatever is typed is for the guest.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![16, 17])
    }
}

impl FromStr for DetachKeys {
    type Err = Failure;

    /// As in podman: single characters, `ctrl-` with one, and `DEL`, separated by commas; nothing for none.
    fn from_str(text: &str) -> Result<Self, Failure> {
        let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([byte], _) => Some(*byte),
            (b"DEL", _) => Some(127),
            (_, Some([with])) => CONTROL.iter().position(|known| known == with).map(|byte| byte as u8),
            _ => None,
        };
        let wrong = |key: &str| {
            Failure::new(format!("invalid --detach-keys {text:?}: {key:?} is no key; ctrl-p,ctrl-q is an example"))
        };
        let keys = text.split(',').filter(|_| !text.is_empty());
        Ok(Self(keys.map(|name| key(name).ok_or_else(|| wrong(name))).collect::<Result<_, _>>()?))
    }
}

/// Looks for the keys in what is typed. The beginning of them is held back until it is known what it becomes.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: DetachKeys,
    typed: usize,
}

/// What was typed, as far as it is for the guest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, and then the keys.
    Detached(Vec<u8>),
}

impl Watch {
    /// Begins to look.
    pub(crate) fn new(keys: DetachKeys) -> Self {
        Self { keys, typed: 0 }
    }

    /// Looks at more.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Typed {
        let Self { keys: DetachKeys(keys), typed } = self;
        if keys.is_empty() {
            return Typed::Bytes(bytes.to_vec());
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            // What was held back begins anew with each of its bytes that can be a beginning.
            while *typed > 0 && keys[*typed] != *byte {
                let held = keys[..*typed].to_vec();
                let kept = (0..*typed).rev().find(|length| held.ends_with(&keys[..*length])).unwrap_or(0);
                passed.extend_from_slice(&held[..held.len() - kept]);
                *typed = kept;
            }
            match keys[*typed] == *byte {
                true => *typed += 1,
                false => passed.push(*byte),
            }
            if *typed == keys.len() {
                *typed = 0;
                return Typed::Detached(passed);
            }
        }
        Typed::Bytes(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut watch = Watch::new(keys.parse().unwrap());
        let mut all = Vec::new();
        for piece in pieces {
            match watch.feed(piece) {
                Typed::Bytes(bytes) => all.extend(bytes),
                Typed::Detached(bytes) => return ([all, bytes].concat(), true),
            }
        }
        (all, false)
    }

    #[test]
    fn keys_are_named_as_in_podman() {
        for (text, keys) in [
            ("ctrl-p,ctrl-q", &[16, 17][..]),
            ("", &[]),
            ("a,ctrl-@,ctrl-[,ctrl-\\,ctrl-_,DEL", &[97, 0, 27, 28, 31, 127]),
        ] {
            assert_eq!(text.parse::<DetachKeys>().unwrap(), DetachKeys(keys.to_vec()), "{text}");
        }
        for text in ["ctrl-", "ctrl-P", "ctrl-pq", "xy", "a,", "ä"] {
            assert!(text.parse::<DetachKeys>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_keys_are_found_wherever_a_read_ends() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10", b"\x10", b"\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10x\x11\x10", b"y"]), (b"\x10x\x11\x10y".to_vec(), false));
        assert_eq!(typed("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(typed("a,b,a,c", &[b"ababac"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn no_keys_are_never_typed() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(typed("", &[&all]), (all.clone(), false));
    }
}
