//! What can be wrong with a peer's bytes, and with a request to open a stream.

use super::StreamId;
use crate::frame::FrameError;

/// How the peer broke the protocol. The session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Its bytes are no frame.
    #[error("the other side sent what is no frame")]
    Frame(#[from] FrameError),
    /// It opened a stream with a number of this side's.
    #[error("the other side opened stream {}, a number of this side's", .0.get())]
    Parity(StreamId),
    /// It opened a stream that is open.
    #[error("the other side opened stream {} twice", .0.get())]
    Reopened(StreamId),
    /// It used a stream that nobody has opened.
    #[error("the other side used stream {}, which nobody has opened", .0.get())]
    Unopened(StreamId),
    /// It has too many streams open.
    #[error("the other side opened more than {0} streams")]
    TooMany(usize),
    /// A frame does not continue where the last one stopped.
    #[error("stream {} goes on at byte {offset} instead of {expected}", .stream.get())]
    Gap {
        /// The stream.
        stream: StreamId,
        /// Where its next byte stands.
        expected: u64,
        /// Where the frame stands.
        offset: u64,
    },
    /// Bytes came after the end of their direction.
    #[error("stream {} goes on after its end", .0.get())]
    AfterEnd(StreamId),
    /// It sent more bytes or frames than its credit.
    #[error("the other side sent more on stream {} than its credit", .0.get())]
    Window(StreamId),
    /// It acknowledged what was not sent.
    #[error("the other side acknowledged byte {offset} of stream {}, of which {sent} were sent", .stream.get())]
    AckAhead {
        /// The stream.
        stream: StreamId,
        /// What was acknowledged.
        offset: u64,
        /// What was sent.
        sent: u64,
    },
    /// It lists a stream twice.
    #[error("the other side resumes stream {} twice", .0.get())]
    Listed(StreamId),
    /// It wants to resume a stream where this is not possible.
    #[error("the other side resumes stream {} at byte {received}, where no sent frame ended", .stream.get())]
    Position {
        /// The stream.
        stream: StreamId,
        /// What the peer says it has received.
        received: u64,
    },
    /// It opens streams that are reset, and takes no answer.
    #[error("the other side opens streams and does not hear that they are over")]
    Flood,
}

/// Why a stream cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This side has too many streams open.
    #[error("open more than {0} streams")]
    TooMany(usize),
    /// The request is longer than a frame.
    #[error("open a stream with a request of {length} bytes where {limit} are allowed")]
    Oversize {
        /// Bytes of the request.
        length: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// All numbers were used.
    #[error("open another stream: all numbers were used")]
    Exhausted,
}
