//! Extended headers of tar archives (POSIX pax): `LENGTH KEY=VALUE\n` records whose values may hold any bytes.
//!
//! The tar crate's own reader of these splits at newlines, which capabilities and other binary values may contain.

use crate::Timestamp;
use std::collections::BTreeMap;

/// What the extended header before an entry says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

impl Pax {
    /// Reads a header; nothing if it is malformed.
    pub(crate) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
            let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            bytes = &bytes[length..];
        }
        Some(Self { records })
    }

    /// Returns the last value of a key; an empty value means that the header's own field counts.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.records.iter().rev().find(|(found, _)| found == key.as_bytes());
        found.map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// Returns all values of a key in their order.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.records.iter().filter(move |(found, _)| found == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// Returns a whole number that is not negative: `Err` if the value is none.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, ()> {
        let Some(value) = self.get(key) else { return Ok(None) };
        decimal(value).map(Some).ok_or(())
    }

    /// Returns the time of the last change.
    pub(crate) fn mtime(&self) -> Result<Option<Timestamp>, ()> {
        let Some(value) = self.get("mtime") else { return Ok(None) };
        timestamp(value).map(Some).ok_or(())
    }

    /// Returns the extended attributes.
    pub(crate) fn xattrs(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let records = self.records.iter();
        records.filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value.clone()))).collect()
    }
}

/// Reads decimal digits.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads seconds with an optional fraction, for example `-1.25`.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let (seconds, nanoseconds): (i64, u32) = (whole.parse().ok()?, digits.parse().ok()?);
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Timestamp { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Timestamp { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_with_newlines_and_equals_are_whole() {
        let pax = Pax::parse(b"32 SCHILY.xattr.user.a=\n=\x00\xffabcd\n11 path=a=\n").unwrap();
        assert_eq!(pax.get("path"), Some(&b"a="[..]));
        assert_eq!(pax.xattrs(), [(b"user.a".to_vec(), b"\n=\x00\xffabcd".to_vec())].into());
    }

    #[test]
    fn lying_lengths_are_refused() {
        for text in [&b"5 a=b\n"[..], b"99 a=b\n", b"a=b\n", b"6 a=bx", b"-1 a=b\n", b"0 a=b\n", b"3 \n", b" \n"] {
            assert_eq!(Pax::parse(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn times_before_1970_and_fractions_are_understood() {
        let at = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(timestamp(b"12"), at(12, 0));
        assert_eq!(timestamp(b"12.5"), at(12, 500_000_000));
        assert_eq!(timestamp(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(timestamp(b"1.0000000019"), at(1, 1));
        for text in [&b"x"[..], b"1.-5", b"", b"99999999999999999999"] {
            assert_eq!(timestamp(text), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            Pax::parse(&bytes);
            timestamp(&bytes);
        }
    }
}
