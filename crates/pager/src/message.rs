//! What a monitor says of its memory, and what the server answers.
//!
//! ```text
//! to the server     one message: the monitor's own JSON, an array of regions; beside it the userfaultfd and the pidfd
//! from the server   one line: "serving", or {"failed":"…"}; later, if it must give up, another {"failed":"…"}
//! ```
//! The array is that of Firecracker: `base_host_virt_addr`, `size`, `offset` into the memory, `page_size`, all in bytes.
//! Whoever sends it may be a monitor that a guest broke out of.

use fcvm_sys::mapping::HUGE_PAGE;
use serde::{Deserialize, Serialize};

/// A page, in bytes.
pub(crate) const PAGE: u64 = 4096;

/// The longest message, in bytes. One with the most regions has about 10,000.
pub const LONGEST: usize = 16 << 10;

/// The most regions: Firecracker has two, and one more for each part that is plugged in.
const MOST_REGIONS: usize = 64;

/// A part of a machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Where it is in the monitor.
    #[serde(rename = "base_host_virt_addr")]
    pub start: u64,
    /// How long it is.
    pub size: u64,
    /// Where it is in the memory.
    pub offset: u64,
    /// The size of its pages.
    pub page_size: u64,
}

impl Region {
    /// The first address behind it.
    pub fn end(&self) -> u64 {
        self.start + self.size
    }
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is not an array of regions.
    #[error("what the monitor says of its memory is not understood: {0}")]
    Unreadable(String),
    /// There are none, or too many.
    #[error("the monitor names {0} regions of memory")]
    Count(usize),
    /// A region cannot be one.
    #[error("the monitor's region of {size} bytes at {start:#x} cannot be one: {reason}")]
    Region {
        /// Where it would be.
        start: u64,
        /// Its length.
        size: u64,
        /// One clause.
        reason: &'static str,
    },
    /// The regions are not the memory.
    #[error("the monitor's memory has {found} bytes, that of the snapshot {expected}")]
    Size {
        /// In the message.
        found: u64,
        /// In the snapshot.
        expected: u64,
    },
}

/// Reads a message about a memory of `size` bytes; the regions are in the order of their addresses.
pub fn regions(message: &[u8], size: u64) -> Result<Vec<Region>, MessageError> {
    let mut regions: Vec<Region> =
        serde_json::from_slice(message).map_err(|error| MessageError::Unreadable(error.to_string()))?;
    if regions.is_empty() || regions.len() > MOST_REGIONS {
        return Err(MessageError::Count(regions.len()));
    }
    // They follow each other in the memory, and fill it.
    let mut place = 0_u64;
    for region in &regions {
        let refused = |reason| MessageError::Region { start: region.start, size: region.size, reason };
        if region.page_size != PAGE && region.page_size != HUGE_PAGE {
            return Err(refused("there are no pages of that size"));
        }
        if region.size == 0
            || !region.start.is_multiple_of(region.page_size)
            || !region.size.is_multiple_of(region.page_size)
        {
            return Err(refused("it is not made of whole pages"));
        }
        if region.start.checked_add(region.size).is_none() || region.offset != place {
            return Err(refused("it is not where it should be"));
        }
        place = place.checked_add(region.size).ok_or_else(|| refused("it is too long"))?;
    }
    if place != size {
        return Err(MessageError::Size { found: place, expected: size });
    }
    regions.sort_unstable_by_key(|region| region.start);
    match regions.windows(2).find(|pair| pair[0].end() > pair[1].start) {
        Some(pair) => {
            let reason = "it overlaps another one";
            Err(MessageError::Region { start: pair[1].start, size: pair[1].size, reason })
        }
        None => Ok(regions),
    }
}

/// What the server says to an owner, as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The machine's pages are served from now on.
    Serving,
    /// They are not, or not any more.
    Failed(String),
}

impl Answer {
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("an answer is plain");
        line.push(b'\n');
        line
    }

    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn message(regions: &[Region]) -> Vec<u8> {
        serde_json::to_vec(regions).unwrap()
    }

    fn region(start: u64, size: u64, offset: u64) -> Region {
        Region { start, size, offset, page_size: PAGE }
    }

    #[test]
    fn what_firecracker_sends_is_understood() {
        let sent = br#"[{"base_host_virt_addr":140737353613312,"size":134217728,"offset":0,"page_size":4096,"page_size_kib":4096}]"#;
        let expected = region(140_737_353_613_312, 128 * MIB, 0);
        assert_eq!(regions(sent, 128 * MIB).unwrap(), [expected]);
    }

    #[test]
    fn regions_are_ordered_by_address_whatever_their_places() {
        let (low, high) = (region(MIB, MIB, MIB), region(8 * MIB, MIB, 0));
        assert_eq!(regions(&message(&[high, low]), 2 * MIB).unwrap(), [low, high]);
    }

    #[test]
    fn what_cannot_be_a_memory_is_refused_with_a_reason() {
        let whole = region(MIB, MIB, 0);
        let table = [
            (vec![], "0 regions"),
            (vec![whole; 65], "65 regions"),
            (vec![Region { page_size: 8192, ..whole }], "no pages of that size"),
            (vec![Region { size: 0, ..whole }], "whole pages"),
            (vec![Region { start: MIB + 1, ..whole }], "whole pages"),
            (vec![Region { page_size: HUGE_PAGE, ..whole }], "whole pages"),
            (vec![Region { offset: PAGE, ..whole }], "where it should be"),
            (vec![Region { start: u64::MAX - PAGE + 1, size: PAGE, ..whole }], "where it should be"),
            (vec![Region { start: 0, size: u64::MAX - PAGE + 1, ..whole }], "18446744073709547520 bytes"),
            (vec![whole, region(MIB + PAGE, MIB, MIB)], "overlaps"),
            (vec![region(MIB, 4 * MIB, 0)], "that of the snapshot 2097152"),
        ];
        for (regions_sent, expected) in table {
            let refused = regions(&message(&regions_sent), 2 * MIB).unwrap_err().to_string();
            assert!(refused.contains(expected), "{expected}: {refused}");
        }
        for text in ["", "null", "{}", "[1]", "[{}]", r#"[{"base_host_virt_addr":-1}]"#, "\u{0}"] {
            assert!(matches!(regions(text.as_bytes(), MIB), Err(MessageError::Unreadable(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_a_region_outside_of_the_memory(
            parts in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>()), 0..4),
            size: u64,
        ) {
            let page = |huge| if huge { HUGE_PAGE } else { PAGE };
            let sent: Vec<Region> = parts
                .iter()
                .map(|(start, size, offset, huge)| Region { start: *start, size: *size, offset: *offset, page_size: page(*huge) })
                .collect();
            if let Ok(read) = regions(&message(&sent), size) {
                prop_assert_eq!(read.iter().map(|region| region.size).sum::<u64>(), size);
            }
        }

        #[test]
        fn bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            let _ = regions(&bytes, MIB);
        }
    }

    #[test]
    fn answers_are_lines() {
        assert_eq!(Answer::Serving.line(), b"\"serving\"\n");
        let failed = Answer::Failed("no\nroom".to_owned());
        assert_eq!(Answer::read(&failed.line()), Some(failed));
        assert_eq!(Answer::read(b""), None);
    }
}
