//! Units: amounts of memory as podman writes them.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An amount of memory in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MiB(pub u32);

impl MiB {
    /// Returns the amount in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

impl FromStr for MiB {
    type Err = Invalid;

    /// Parses podman's grammar, a number with `b`, `k`, `m` or `g` (none: bytes), rounded up to whole MiB.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = parse_bytes(text)?;
        u32::try_from(bytes.div_ceil(1 << 20))
            .map(Self)
            .map_err(|_| Invalid::new("amount of memory", text, "it is more than any machine has"))
    }
}

/// Parses a number of bytes with podman's suffixes: `b`, `k`, `m`, `g`, `t` in either case, also `kb` and `kib`.
pub fn parse_bytes(text: &str) -> Result<u64, Invalid> {
    let wrong = || Invalid::new("amount of memory", text, "a number with b, k, m or g is expected, for example 512m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, suffix) = lower.split_at(digits);
    let shift = match suffix.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_suffixes_are_understood() {
        for (text, mib) in [("512m", 512), ("1g", 1024), ("1G", 1024), ("1GiB", 1024), ("1048577", 2), ("64MB", 64)] {
            assert_eq!(text.parse(), Ok(MiB(mib)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "m", "-1m", "1.5g", "12x", "99999999999999999999", "9999999t"] {
            assert!(text.parse::<MiB>().is_err(), "{text}");
        }
    }
}
