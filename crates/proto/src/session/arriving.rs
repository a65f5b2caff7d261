//! A stream's incoming direction: what arrived and was not taken, and what is to be acknowledged.

use super::{MAX_FRAMES, ProtocolError, StreamId, Taken, WINDOW};
use crate::frame::Frame;
use crate::message::Lane;
use bytes::Bytes;
use std::collections::VecDeque;

/// Bytes that may be taken before they are acknowledged, while more wait.
const BATCH: u64 = 64 * 1024;
/// Frames that may be taken before they are acknowledged, while more wait.
const BATCH_FRAMES: usize = MAX_FRAMES / 4;
/// What may stay unacknowledged when nothing is left to take, until something is sent on the same stream: an answer then
/// travels together with the acknowledgement of its question, and both sides wake up once for it. It is little, for the
/// peer keeps it that long.
const LITTLE: u64 = 4 * 1024;
const LITTLE_FRAMES: usize = 16;

#[derive(Debug)]
pub(super) struct Arriving {
    queue: VecDeque<(Lane, Bytes)>,
    received: u64,
    taken: u64,
    acknowledged: u64,
    /// Frames taken since the last acknowledgement.
    frames: usize,
    end: End,
    /// An acknowledgement is in the outbox.
    due: bool,
    unwanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Received,
    Taken,
}

impl Arriving {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            received: 0,
            taken: 0,
            acknowledged: 0,
            frames: 0,
            end: End::Open,
            due: false,
            unwanted: false,
        }
    }

    /// Adds a frame; returns the bytes that the queue grew by.
    pub(super) fn push(&mut self, stream: StreamId, frame: Frame) -> Result<usize, ProtocolError> {
        let Frame { header, payload } = frame;
        if self.end != End::Open {
            return Err(ProtocolError::AfterEnd(stream));
        }
        if header.offset != self.received {
            return Err(ProtocolError::Gap { stream, expected: self.received, offset: header.offset });
        }
        let ends_only = header.flags.end && payload.is_empty() && !header.flags.open;
        if !ends_only {
            let beyond = self.received - self.taken + (payload.len() as u64).max(1);
            if self.queue.len() >= MAX_FRAMES || (beyond > WINDOW && !header.flags.open) {
                return Err(ProtocolError::Window(stream));
            }
        }
        self.received += header.span();
        if header.flags.end {
            self.end = End::Received;
        }
        if self.unwanted {
            self.drop_all();
            return Ok(0);
        }
        let length = payload.len();
        if !ends_only {
            self.queue.push_back((header.lane, payload));
        }
        Ok(length)
    }

    /// Takes the next item or the end.
    pub(super) fn take(&mut self) -> Taken {
        let Some((lane, bytes)) = self.queue.pop_front() else {
            if self.end == End::Open {
                return Taken::Nothing;
            }
            self.end = End::Taken;
            self.taken = self.received;
            return Taken::End;
        };
        self.taken += (bytes.len() as u64).max(1);
        self.frames += 1;
        if self.queue.is_empty() {
            // An idle stream holds no memory for items.
            self.queue = VecDeque::new();
        }
        Taken::Item(lane, bytes)
    }

    /// Drops what waits and all that comes; returns the bytes that the queue shrank by.
    pub(super) fn discard(&mut self) -> usize {
        self.unwanted = true;
        let dropped = self.queue.iter().map(|(_, bytes)| bytes.len()).sum();
        self.drop_all();
        dropped
    }

    fn drop_all(&mut self) {
        self.queue = VecDeque::new();
        self.taken = self.received;
        if self.end == End::Received {
            self.end = End::Taken;
        }
    }

    /// Whether there is nothing to take, not even the end.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.end != End::Received
    }

    /// Whether an acknowledgement has become due just now: enough was taken, or nothing is left to take and that was more
    /// than a little, or it is the first or the last.
    pub(super) fn falls_due(&mut self) -> bool {
        let (bytes, frames) = if self.queue.is_empty() { (LITTLE, LITTLE_FRAMES) } else { (BATCH, BATCH_FRAMES) };
        let unacknowledged = self.taken - self.acknowledged;
        let enough = unacknowledged >= bytes || self.frames >= frames;
        (enough || self.acknowledged == 0 || self.has_ended()) && self.goes_along()
    }

    /// Whether an acknowledgement goes along with what is about to be sent: it is due then.
    pub(super) fn goes_along(&mut self) -> bool {
        let falls_due = self.taken > self.acknowledged && !self.due;
        self.due |= falls_due;
        falls_due
    }

    /// What to acknowledge, which counts as done.
    pub(super) fn acknowledged(&mut self) -> u64 {
        self.due = false;
        self.frames = 0;
        self.acknowledged = self.taken;
        self.taken
    }

    /// Makes an acknowledgement due again if there ever was one: the last one may be lost.
    pub(super) fn repeat(&mut self) -> bool {
        self.due = self.taken > 0;
        self.due
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Whether the end was taken and acknowledged.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended() && !self.due
    }

    /// Whether the end was taken.
    pub(super) fn has_ended(&self) -> bool {
        self.end == End::Taken
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted && !self.has_ended()
    }
}
