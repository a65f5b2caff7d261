//! Frames: a header of 20 bytes and a payload. What they mean to a stream is in [`crate::session`].
//!
//! ```text
//!  0      1      2             4                           8
//! ┌──────┬──────┬─────────────┬───────────────────────────┐
//! │ kind │ lane │ flags       │ stream                    │
//! ├──────┴──────┴─────────────┼───────────────────────────┴────────────────────────────┐
//! │ length                    │ offset                                                  │
//! └───────────────────────────┴─────────────────────────────────────────────────────────┘
//!  8                          12                                                       20     big-endian
//! ```
//!
//! A header is judged before its payload is awaited, so a lying length costs nothing.

use crate::message::Lane;
use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Bytes of a header.
pub const HEADER: usize = 20;
/// The largest payload of a data frame, in bytes. The largest datagram (65,507) fits.
pub const MAX_DATA: usize = 64 * 1024;
/// The largest payload of a session frame or of a frame that opens a stream, in bytes.
pub const MAX_REQUEST: usize = 1024 * 1024;
/// The largest payload of a reset frame, in bytes.
pub const MAX_REASON: usize = 4096;

/// Characters of a reason that are sent: each takes at most six bytes as JSON, so [`MAX_REASON`] holds them.
const REASON_CHARACTERS: usize = 512;
/// Payloads from this size on are slices of the receive buffer; smaller ones are copied, lest they pin all of it.
const SLICED: usize = 32 * 1024;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes of a stream, its request, or its end.
    Data = 1,
    /// How many bytes of a stream were taken.
    Ack = 2,
    /// The end of both directions of a stream at once.
    Reset = 3,
    /// A message outside of streams.
    Session = 4,
}

/// What a data frame does besides carrying bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// The direction ends after this frame. Counts as one byte of the numbering.
    pub end: bool,
    /// The first frame of a stream; its payload is the request.
    pub open: bool,
}

impl Flags {
    const END: u16 = 1;
    const OPEN: u16 = 2;

    fn bits(self) -> u16 {
        u16::from(self.end) * Self::END + u16::from(self.open) * Self::OPEN
    }

    fn from_bits(bits: u16) -> Option<Self> {
        (bits & !(Self::END | Self::OPEN) == 0)
            .then_some(Self { end: bits & Self::END != 0, open: bits & Self::OPEN != 0 })
    }
}

/// A frame's first 20 bytes. One that was decoded keeps to the limits of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// The lane of a data frame.
    pub lane: Lane,
    /// What a data frame does besides.
    pub flags: Flags,
    /// The stream's number; 0 in a session frame.
    pub stream: u32,
    /// Bytes of the payload.
    pub length: u32,
    /// Where a data frame's first byte stands in its direction's numbering, or what an acknowledgement covers.
    pub offset: u64,
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A kind that this build does not know.
    #[error("frame of unknown kind {0}")]
    Kind(u8),
    /// A lane that this build does not know, or one where none belongs.
    #[error("frame on unknown lane {0}")]
    Lane(u8),
    /// Flags that this build does not know, or that do not belong to the kind.
    #[error("frame with unknown flags {0:#06x}")]
    Flags(u16),
    /// A session frame with a stream, or another frame without one.
    #[error("{kind:?} frame for stream {stream}")]
    Stream {
        /// The frame's kind.
        kind: Kind,
        /// The stream's number.
        stream: u32,
    },
    /// An offset where none belongs.
    #[error("{kind:?} frame at offset {offset}")]
    Offset {
        /// The frame's kind.
        kind: Kind,
        /// The offset.
        offset: u64,
    },
    /// A payload longer than its kind may have.
    #[error("{kind:?} frame of {length} bytes where {limit} are allowed")]
    Oversize {
        /// The frame's kind.
        kind: Kind,
        /// Bytes of the payload.
        length: u32,
        /// Bytes that are allowed.
        limit: usize,
    },
}

/// Why a message does not become a frame.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It does not become JSON.
    #[error("encode a message as JSON")]
    Json(#[source] serde_json::Error),
    /// It is longer than a frame of its kind.
    #[error("a message of {length} bytes where {limit} are allowed")]
    Oversize {
        /// Bytes of the message.
        length: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
}

impl Header {
    /// Encodes the header as it travels.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = self.kind as u8;
        bytes[1] = self.lane as u8;
        bytes[2..4].copy_from_slice(&self.flags.bits().to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// Decodes a header and judges it by the limits of its kind.
    pub fn decode(bytes: &[u8; HEADER]) -> Result<Self, FrameError> {
        let mut fields = &bytes[..];
        let kind = kind(fields.get_u8())?;
        let lane = lane(fields.get_u8())?;
        let bits = fields.get_u16();
        let flags = Flags::from_bits(bits).ok_or(FrameError::Flags(bits))?;
        let header =
            Self { kind, lane, flags, stream: fields.get_u32(), length: fields.get_u32(), offset: fields.get_u64() };
        header.judge()?;
        Ok(header)
    }

    /// How far a data frame moves its direction's numbering: its payload, and one for an end. An empty frame that
    /// ends nothing (an empty datagram) moves it by one too, so that it is neither lost nor doubled by a resume.
    pub fn span(&self) -> u64 {
        u64::from(self.length) + u64::from(self.flags.end || self.length == 0)
    }

    fn judge(&self) -> Result<(), FrameError> {
        let Self { kind, lane, flags, stream, length, offset } = *self;
        if (kind == Kind::Session) != (stream == 0) {
            return Err(FrameError::Stream { kind, stream });
        }
        if kind != Kind::Data && flags != Flags::default() {
            return Err(FrameError::Flags(flags.bits()));
        }
        if lane != Lane::Message && (kind != Kind::Data || flags.open) {
            return Err(FrameError::Lane(lane as u8));
        }
        if offset != 0 && (flags.open || matches!(kind, Kind::Reset | Kind::Session)) {
            return Err(FrameError::Offset { kind, offset });
        }
        let limit = self.limit();
        if length as usize > limit {
            return Err(FrameError::Oversize { kind, length, limit });
        }
        Ok(())
    }

    fn limit(&self) -> usize {
        match self.kind {
            Kind::Data if self.flags.open => MAX_REQUEST,
            Kind::Data => MAX_DATA,
            Kind::Ack => 0,
            Kind::Reset => MAX_REASON,
            Kind::Session => MAX_REQUEST,
        }
    }
}

fn kind(byte: u8) -> Result<Kind, FrameError> {
    match byte {
        1 => Ok(Kind::Data),
        2 => Ok(Kind::Ack),
        3 => Ok(Kind::Reset),
        4 => Ok(Kind::Session),
        _ => Err(FrameError::Kind(byte)),
    }
}

fn lane(byte: u8) -> Result<Lane, FrameError> {
    match byte {
        0 => Ok(Lane::Message),
        1 => Ok(Lane::Data),
        2 => Ok(Lane::Error),
        _ => Err(FrameError::Lane(byte)),
    }
}

/// A header and its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header; its length is the payload's.
    pub header: Header,
    /// The payload.
    pub payload: Bytes,
}

impl Frame {
    /// Takes the next whole frame from the front of `buffer`; none if it is not whole yet.
    pub fn take(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(bytes) = buffer.first_chunk() else { return Ok(None) };
        let header = Header::decode(bytes)?;
        let length = header.length as usize;
        if buffer.len() < HEADER + length {
            return Ok(None);
        }
        buffer.advance(HEADER);
        let payload = if length < SLICED {
            let copy = Bytes::copy_from_slice(&buffer[..length]);
            buffer.advance(length);
            copy
        } else {
            buffer.split_to(length).freeze()
        };
        Ok(Some(Self { header, payload }))
    }

    /// Makes a session frame of a message.
    pub fn session<T: Serialize>(message: &T) -> Result<Self, EncodeError> {
        let payload = encode(message, MAX_REQUEST)?;
        Ok(Self { header: Header { length: payload.len() as u32, ..Header::of(Kind::Session, 0) }, payload })
    }

    /// Makes the frame that resets a stream. A long reason is shortened.
    pub fn reset(stream: u32, reason: &str) -> Self {
        let reason = reason.chars().take(REASON_CHARACTERS).collect();
        let payload = encode(&Reason { reason }, MAX_REASON).expect("a shortened reason fits its frame");
        Self { header: Header { length: payload.len() as u32, ..Header::of(Kind::Reset, stream) }, payload }
    }

    /// Makes the frame that acknowledges a stream's bytes before `offset`.
    pub fn ack(stream: u32, offset: u64) -> Self {
        Self { header: Header { offset, ..Header::of(Kind::Ack, stream) }, payload: Bytes::new() }
    }

    /// Reads a reset frame's reason; what cannot be read becomes a sentence that says so.
    pub fn reason(&self) -> String {
        match serde_json::from_slice::<Reason>(&self.payload) {
            Ok(Reason { reason }) => reason,
            Err(_) => "the other side gave no readable reason".to_owned(),
        }
    }
}

impl Header {
    fn of(kind: Kind, stream: u32) -> Self {
        Self { kind, lane: Lane::Message, flags: Flags::default(), stream, length: 0, offset: 0 }
    }
}

/// Encodes a message as JSON of at most `limit` bytes.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Bytes, EncodeError> {
    let json = serde_json::to_vec(message).map_err(EncodeError::Json)?;
    if json.len() > limit {
        return Err(EncodeError::Oversize { length: json.len(), limit });
    }
    Ok(json.into())
}

/// The payload of a reset frame.
#[derive(Serialize, Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

#[cfg(test)]
mod tests;
