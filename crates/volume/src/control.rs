//! What an owner and its file server tell each other, over a socket of their own.
//!
//! Four bytes of length (little-endian), then JSON. Both are the same executable, so there are no versions here; the
//! state of a volume is kept in snapshots and has one ([`State`]).

use crate::tables::Tables;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// The version of [`State`] that this build writes and reads.
const FORMAT: u32 = 1;

/// The state of a million files has some tens of megabytes.
pub(crate) const LONGEST: usize = 1 << 30;

/// What the owner says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// What to serve; the first order, and given once.
    Serve(Vec<Served>),
    /// Tell the state of every volume. None of them has a request in flight.
    Save,
}

/// What the server answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// All volumes are served.
    Serving,
    /// The states, in the order of the volumes.
    Saved(Vec<State>),
    /// It could not be done; a sentence.
    Failed(String),
}

/// One volume as the server sees it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Served {
    /// Where it is inside.
    pub(crate) root: String,
    pub(crate) cache: Cache,
    pub(crate) owners: Owners,
    pub(crate) events: Events,
    /// What it was when the guest last knew it.
    pub(crate) state: Option<State>,
}

/// What a guest may remember of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Data from one opening of a file to the next, names and attributes for a second.
    #[default]
    Auto,
    /// Nothing: every question is asked.
    None,
    /// As [`Cache::Auto`], and writes are collected: only where nobody else writes.
    Writeback,
    /// All, as it was when it was first looked at: the lower layer of a view, which must not change below it.
    Still,
}

/// Whether a guest is told what changes on the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Events {
    /// It is, and raises inotify events.
    #[default]
    Told,
    /// It is not.
    Untold,
}

/// As whom a server acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Owners {
    /// As whoever asks in the guest.
    Asking,
    /// As the user that it belongs to, who is root in the guest.
    One,
}

/// What a server knows of the files that a guest has looked up and opened: part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// The message with which the guest began, base64; none if it has not begun.
    pub(crate) hello: Option<String>,
    /// The tables, as virtiofsd writes them, base64.
    pub(crate) tables: String,
}

impl State {
    pub(crate) fn new(hello: Option<String>, tables: String) -> Self {
        Self { format: FORMAT, hello, tables }
    }

    /// The state of a server that takes the place of one that is gone: what the guest knew of files is of no use any more.
    pub fn renewed(&self) -> io::Result<Self> {
        self.with_tables(Tables::renewed)
    }

    /// The same state for a tree that lies elsewhere: a file is the one that has its name.
    pub fn elsewhere(&self) -> io::Result<Self> {
        self.with_tables(Tables::elsewhere)
    }

    fn with_tables(&self, change: impl FnOnce(Tables) -> Tables) -> io::Result<Self> {
        Ok(Self { tables: BASE64.encode(change(self.tables()?).encode()?), ..self.clone() })
    }

    /// What is known of files.
    pub(crate) fn tables(&self) -> io::Result<Tables> {
        Tables::decode(&BASE64.decode(&self.tables).map_err(io::Error::other)?)
    }

    /// Whether this build knows the format.
    pub(crate) fn is_known(&self) -> bool {
        self.format == FORMAT
    }
}

/// Writes one message.
pub(crate) fn tell(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// The bytes of one message.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &text].concat())
}

/// Reads one message; none at the end.
pub(crate) fn hear<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = bounded(length)?;
    let mut text = Vec::new();
    from.take(length as u64).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// The length of a message, if there can be one so long.
pub(crate) fn bounded(length: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(length) as usize;
    if length <= LONGEST { Ok(length) } else { Err(io::ErrorKind::InvalidData.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_heard_as_it_was_told_and_an_end_is_an_end() {
        let mut bytes = Vec::new();
        tell(&mut bytes, &Answer::Failed("no".to_owned())).unwrap();
        let mut reader = bytes.as_slice();
        assert!(matches!(hear(&mut reader), Ok(Some(Answer::Failed(reason))) if reason == "no"));
        assert!(hear::<Answer>(&mut reader).unwrap().is_none());
        assert!(hear::<Answer>(&[0xff; 8][..]).is_err());
    }

    #[test]
    fn a_state_of_this_format_is_read_for_ever() {
        let text = r#"{"format":1,"hello":"aGk=","tables":"AA=="}"#;
        let state: State = serde_json::from_str(text).unwrap();
        assert!(state.is_known());
        assert_eq!(state, State::new(Some("aGk=".to_owned()), "AA==".to_owned()));
    }
}
