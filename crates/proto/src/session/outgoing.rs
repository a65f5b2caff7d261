//! A stream's outgoing direction: frames that were not acknowledged, and which of them were sent.

use super::{MAX_FRAMES, ProtocolError, StreamId, WINDOW};
use crate::frame::{Flags, Frame, Header, Kind};
use crate::message::Lane;
use bytes::Bytes;
use std::collections::VecDeque;

/// ```text
///   acked            sent                next
///     ├── kept, sent ──┼── kept, unsent ───┤
///     frames[0]        frames[unsent]
/// ```
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    frames: VecDeque<Kept>,
    /// How many of the frames were sent.
    unsent: usize,
    acked: u64,
    sent: u64,
    next: u64,
    ended: bool,
}

#[derive(Debug)]
struct Kept {
    lane: Lane,
    flags: Flags,
    start: u64,
    payload: Bytes,
}

impl Kept {
    fn header(&self) -> Header {
        let length = self.payload.len() as u32;
        Header { kind: Kind::Data, lane: self.lane, flags: self.flags, stream: 0, length, offset: self.start }
    }

    fn end(&self) -> u64 {
        self.start + self.header().span()
    }
}

impl Outgoing {
    /// The direction of a stream that this side opens.
    pub(super) fn opened(request: Bytes) -> Self {
        let mut outgoing = Self::default();
        outgoing.keep(Lane::Message, Flags { open: true, end: false }, request);
        outgoing
    }

    /// The direction of a stream that the peer opened.
    pub(super) fn accepted() -> Self {
        Self::default()
    }

    pub(super) fn has_credit(&self, length: usize) -> bool {
        self.frames.len() < MAX_FRAMES && self.next - self.acked + (length as u64).max(1) <= WINDOW
    }

    /// Adds a frame; true if there was nothing to send before.
    pub(super) fn push(&mut self, lane: Lane, payload: Bytes) -> bool {
        if self.ended {
            return false;
        }
        let idle = !self.has_output();
        self.keep(lane, Flags::default(), payload);
        idle
    }

    /// Adds the end, to the last frame if that was not sent; true if there was nothing to send before.
    pub(super) fn finish(&mut self) -> bool {
        if self.ended {
            return false;
        }
        self.ended = true;
        let idle = !self.has_output();
        match self.frames.back_mut() {
            Some(last) if !idle && !last.payload.is_empty() => {
                last.flags.end = true;
                self.next += 1;
            }
            _ => self.keep(Lane::Message, Flags { end: true, open: false }, Bytes::new()),
        }
        idle
    }

    fn keep(&mut self, lane: Lane, flags: Flags, payload: Bytes) {
        let kept = Kept { lane, flags, start: self.next, payload };
        self.next = kept.end();
        self.frames.push_back(kept);
    }

    pub(super) fn has_output(&self) -> bool {
        self.unsent < self.frames.len()
    }

    /// Whether the peer can know of this direction.
    pub(super) fn sent_any(&self) -> bool {
        self.sent > 0
    }

    /// Whether the peer has acknowledged any of this direction.
    pub(super) fn acked_any(&self) -> bool {
        self.acked > 0
    }

    /// Whether the request is still to be sent.
    pub(super) fn opens(&self) -> bool {
        self.unsent == 0 && self.frames.front().is_some_and(|frame| frame.flags.open)
    }

    /// The next frame to send.
    pub(super) fn output(&mut self, id: StreamId) -> Option<Frame> {
        let kept = self.frames.get(self.unsent)?;
        self.unsent += 1;
        self.sent = kept.end();
        Some(Frame::data(id, kept.header(), kept.payload.clone()))
    }

    /// Forgets what the peer has taken.
    pub(super) fn acked(&mut self, stream: StreamId, offset: u64) -> Result<(), ProtocolError> {
        if offset > self.sent {
            return Err(ProtocolError::AckAhead { stream, offset, sent: self.sent });
        }
        self.acked = self.acked.max(offset);
        while self.frames.front().is_some_and(|frame| frame.end() <= self.acked) {
            self.frames.pop_front();
            self.unsent -= 1;
        }
        if self.frames.is_empty() {
            // An idle stream holds no memory for frames.
            self.frames = VecDeque::new();
        }
        Ok(())
    }

    /// Whether the end was sent and acknowledged.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.frames.is_empty()
    }

    /// Whether the end was asked for, acknowledged or not.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Sends again what comes after the bytes that the peer has received.
    pub(super) fn rewind(&mut self, stream: StreamId, received: u64) -> Result<(), ProtocolError> {
        let index = self.frames.partition_point(|frame| frame.start < received);
        let start = self.frames.get(index).map_or(self.next, |frame| frame.start);
        if start != received || received < self.acked || received > self.sent {
            return Err(ProtocolError::Position { stream, received });
        }
        self.unsent = index;
        self.sent = received;
        Ok(())
    }
}
