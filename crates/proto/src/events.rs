//! File events of a volume: what the host's files have gone through, told to the guest's agent so that its kernel raises
//! inotify events.
//!
//! They travel among a volume's FUSE messages, in the shape of these. The agent asks with a request of its own
//! ([`ask`]); the file server answers it when there is something to tell, with records one after the other. So no more
//! is under way than the agent has asked for. A file server that tells nothing answers with an error, and an agent that
//! knows no events never asks.
//!
//! ```text
//! request  0 length u32 │ 4 OPCODE u32 │ 8 ASK u64 │ 16 zero, 24 bytes │ 40 VERSION u32
//! answer   0 length u32 │ 4 error i32 │ 8 ASK u64 │ 16 records
//! record   0 length u32 │ 4 kind u16 │ 6 changes u16 │ 8 directory u64 │ 16 node u64 │ 24 to directory u64
//!          32 replaced u64 │ 40 file's type u16 │ 42 type of what was replaced u16
//!          44 length of the name u16 │ 46 length of the other name u16 │ 48 name, other name
//! ```
//! Numbers are little-endian, but for the two headers, which are in the byte order of the machine as all of FUSE is.
//! A record of an unknown kind is passed over.

/// The version of this format.
pub const VERSION: u32 = 1;
/// The operation of the request: none of FUSE's.
pub const OPCODE: u32 = 0x6663_766d;
/// The number of the request: no kernel counts that far.
pub const ASK: u64 = 1 << 63 | 1;
/// The longest answer, in bytes.
pub const LONGEST: usize = 64 << 10;

/// The headers of a request and of an answer (`fuse_in_header`, `fuse_out_header`), and of a record.
const REQUEST: usize = 40;
const ANSWER: usize = 16;
const RECORD: usize = 48;
/// The longest name (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// What happened to a file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The number of the directory that it is in, as the guest's kernel knows it; never zero.
    pub directory: u64,
    /// Its name. None: the root of the volume itself.
    pub name: Vec<u8>,
    /// Its type: the bits of `S_IFMT`. Zero: unknown.
    pub kind: u16,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It was changed.
    Changed(Changes),
    /// It appeared, and was changed then.
    Created(Changes),
    /// It is gone.
    Deleted {
        /// Its number, if the guest knows it.
        node: u64,
    },
    /// It has another name.
    Moved {
        /// Its number, if the guest knows it.
        node: u64,
        /// The directory that it is in now.
        directory: u64,
        /// Its name there.
        name: Vec<u8>,
        /// What had that name before, if the guest knows it: number and type.
        replaced: (u64, u16),
    },
}

/// How a file was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes(u16);

impl Changes {
    /// Its content.
    pub const CONTENT: Self = Self(1);
    /// Whoever wrote to it has closed it.
    pub const CLOSED: Self = Self(2);
    /// Its attributes.
    pub const ATTRIBUTES: Self = Self(4);

    /// These and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether those are among these.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The request with which events are asked for.
pub fn ask() -> Vec<u8> {
    let length = (REQUEST + 4) as u32;
    let head = [&length.to_ne_bytes()[..], &OPCODE.to_ne_bytes(), &ASK.to_ne_bytes(), &[0; 24]];
    [&head.concat()[..], &VERSION.to_le_bytes()].concat()
}

/// Whether a request asks for events that this build can tell.
pub fn is_asked(request: &[u8]) -> bool {
    let version = request.get(REQUEST..).and_then(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes));
    version == Some(VERSION)
}

/// The answer with these records, which are at most [`LONGEST`] bytes.
pub fn answer(records: &[u8]) -> Vec<u8> {
    let length = (ANSWER + records.len()) as u32;
    [&length.to_ne_bytes()[..], &[0; 4], &ASK.to_ne_bytes(), records].concat()
}

/// The events of an answer, as far as they can be believed; none if it is none, and no more are to be asked for.
pub fn answered(answer: &[u8]) -> Option<Vec<Event>> {
    let error = answer.get(4..8)?;
    let mut records = answer.get(ANSWER..).filter(|_| error == [0; 4])?;
    let mut events = Vec::new();
    while let Some(length) = records.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) {
        if length < RECORD {
            break;
        }
        let Some((record, rest)) = records.split_at_checked(length) else { break };
        events.extend(Event::decode(record));
        records = rest;
    }
    Some(events)
}

impl Event {
    /// Adds its record to others.
    pub fn encode(&self, records: &mut Vec<u8>) {
        let (kind, changes, node, to, replaced, name) = match &self.what {
            What::Changed(changes) => (1_u16, changes.0, 0, 0, (0, 0), &[][..]),
            What::Created(changes) => (2, changes.0, 0, 0, (0, 0), &[][..]),
            What::Deleted { node } => (3, 0, *node, 0, (0, 0), &[][..]),
            What::Moved { node, directory, name, replaced } => (4, 0, *node, *directory, *replaced, &name[..]),
        };
        let length = (RECORD + self.name.len() + name.len()) as u32;
        records.extend_from_slice(&length.to_le_bytes());
        [kind, changes].iter().for_each(|number| records.extend_from_slice(&number.to_le_bytes()));
        let numbers = [self.directory, node, to, replaced.0];
        numbers.iter().for_each(|number| records.extend_from_slice(&number.to_le_bytes()));
        let lengths = [self.kind, replaced.1, self.name.len() as u16, name.len() as u16];
        lengths.iter().for_each(|number| records.extend_from_slice(&number.to_le_bytes()));
        records.extend_from_slice(&self.name);
        records.extend_from_slice(name);
    }

    /// How long its record is, in bytes.
    pub fn length(&self) -> usize {
        let other = if let What::Moved { name, .. } = &self.what { name.len() } else { 0 };
        RECORD + self.name.len() + other
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let short = |at: usize| record.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_le_bytes(*bytes));
        let long = |at: usize| record.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_le_bytes(*bytes));
        let names = record.get(RECORD..)?;
        let (name, names) = names.split_at_checked(usize::from(short(44)?))?;
        let other = names.get(..usize::from(short(46)?))?;
        let (directory, node, changes) = (long(8)?, long(16)?, Changes(short(6)?));
        let what = match short(4)? {
            1 => What::Changed(changes),
            2 => What::Created(changes),
            3 => What::Deleted { node },
            4 => {
                let replaced = (long(32)?, short(42)?);
                What::Moved { node, directory: long(24)?, name: other.to_vec(), replaced }
            }
            _ => return None,
        };
        let is_named = match &what {
            What::Changed(_) => name.is_empty() || is_name(name),
            What::Created(_) | What::Deleted { .. } => is_name(name),
            What::Moved { directory, name: other, .. } => is_name(name) && is_name(other) && *directory != 0,
        };
        (is_named && directory != 0).then(|| Self {
            directory,
            name: name.to_vec(),
            kind: short(40).unwrap_or(0),
            what,
        })
    }
}

/// Whether a file can be called so.
pub fn is_name(name: &[u8]) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| b"/\0".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, what: What) -> Event {
        Event { directory: 1, name: name.into(), kind: 0o100_000, what }
    }

    #[test]
    fn what_cannot_be_is_left_out_and_nothing_else() {
        let mut records = Vec::new();
        let moved = |to: &str, directory| What::Moved { node: 0, directory, name: to.into(), replaced: (0, 0) };
        for bad in ["..", ".", "", "a/b", "a\0b", &"x".repeat(256)] {
            event(bad, What::Deleted { node: 1 }).encode(&mut records);
            event("a", moved(bad, 1)).encode(&mut records);
        }
        event("a", moved("b", 0)).encode(&mut records);
        let unknown = records.len();
        event("a", What::Created(Changes::CONTENT)).encode(&mut records);
        records[unknown + 4] = 9;
        let good = [event("a", moved("b", 2)), event("", What::Changed(Changes::ATTRIBUTES))];
        good.iter().for_each(|event| event.encode(&mut records));
        assert_eq!(answered(&answer(&records)).unwrap(), good);
    }

    #[test]
    fn an_answer_that_was_cut_anywhere_is_no_panic() {
        let mut records = Vec::new();
        event("a", What::Deleted { node: 1 }).encode(&mut records);
        let whole = answer(&records);
        for length in 0..whole.len() {
            let _any = answered(&whole[..length]);
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 0xff;
            let _any = answered(&other);
        }
        let refused = [&16_u32.to_ne_bytes()[..], &(-38_i32).to_ne_bytes(), &ASK.to_ne_bytes()].concat();
        assert_eq!(answered(&refused), None);
    }

    #[test]
    fn a_request_of_another_version_is_not_answered() {
        assert!(is_asked(&ask()));
        let mut other = ask();
        other[40] = 2;
        assert!(!is_asked(&other) && !is_asked(&other[..42]));
    }
}
