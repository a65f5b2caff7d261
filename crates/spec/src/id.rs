//! What a VM is called, its id and its name, and what else has one.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! hex_id {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Makes an id of 32 random bytes.
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
            }

            /// Returns the first twelve digits, which is what people see.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }

            /// Returns all digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                if text.len() == 64 && text.bytes().all(hex) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Invalid::new($what, text, "64 hexadecimal digits are expected"))
            }
        }
    };
}
hex_id! {
    /// A VM's id: 64 lower-case hexadecimal digits, as podman's container ids.
    VmId, "VM id"
}
hex_id! {
    /// A snapshot's id, of the same form.
    SnapshotId, "snapshot id"
}

/// A VM's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*` as in podman, and short enough for a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// The longest name in bytes: a file name's limit, less what is put around it.
    pub const MAX: usize = 200;

    /// Makes a name of two words of [`ADJECTIVES`] and [`NOUNS`], chosen by `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let pick = |words: &[&'static str], seed: u64| words[(seed % words.len() as u64) as usize];
        Self(format!("{}_{}", pick(ADJECTIVES, seed), pick(NOUNS, seed >> 32)))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        name("name", text).map(Self)
    }
}

/// A named volume's name, of the same form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

impl VolumeName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        name("volume name", text).map(Self)
    }
}

fn name(what: &'static str, text: &str) -> Result<String, Invalid> {
    if text.len() > VmName::MAX {
        return Err(Invalid::new(what, text, format!("at most {} characters are allowed", VmName::MAX)));
    }
    let first = |byte: u8| byte.is_ascii_alphanumeric();
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    match text.as_bytes() {
        [head, tail @ ..] if first(*head) && tail.iter().all(|byte| rest(*byte)) => Ok(text.to_owned()),
        _ => Err(Invalid::new(what, text, "it must match [a-zA-Z0-9][a-zA-Z0-9_.-]*")),
    }
}

macro_rules! text_like {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    };
}
text_like!(VmId);
text_like!(SnapshotId);
text_like!(VmName);
text_like!(VolumeName);

const ADJECTIVES: &[&str] = &[
    "agile", "amber", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp", "deft", "eager", "fair",
    "fleet", "fond", "frosty", "gentle", "glad", "golden", "hardy", "honest", "humble", "jolly", "keen", "kind",
    "lively", "loyal", "lucid", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plain",
    "proud", "quick", "quiet", "rapid", "ready", "serene", "sharp", "silent", "sleek", "snug", "solid", "spry",
    "steady", "still", "sunny", "swift", "tidy", "tranquil", "true", "vivid", "warm", "wise", "witty",
];
const NOUNS: &[&str] = &[
    "acorn", "anchor", "aspen", "badger", "beacon", "birch", "bison", "brook", "canyon", "cedar", "comet", "condor",
    "coral", "crane", "delta", "dune", "falcon", "fern", "finch", "fjord", "fox", "glacier", "grove", "harbour",
    "hawk", "heron", "island", "ivy", "juniper", "kestrel", "lagoon", "lantern", "larch", "lark", "lynx", "maple",
    "marten", "meadow", "meteor", "mill", "moss", "oak", "orchard", "osprey", "otter", "pebble", "pine", "prairie",
    "quail", "raven", "reef", "river", "robin", "sparrow", "spruce", "summit", "thistle", "tundra", "willow", "wren",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_flags_are_refused() {
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", "a\0b", &"x".repeat(201)] {
            assert!(bad.parse::<VmName>().is_err(), "{bad:?}");
        }
        for good in ["a", "web-1", "x.y_z", &"x".repeat(200)] {
            assert!(good.parse::<VmName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn generated_names_are_valid() {
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let name = VmName::from_seed(seed);
            assert_eq!(name.as_str().parse(), Ok(name.clone()));
        }
    }

    #[test]
    fn an_id_is_exactly_64_hex_digits() {
        assert!(VmId::from_random([7; 32]).as_str().parse::<VmId>().is_ok());
        assert!("../../etc".parse::<VmId>().is_err());
        assert!("A".repeat(64).parse::<VmId>().is_err());
    }
}
