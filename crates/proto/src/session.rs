//! The state of a session: its streams, and what is to be sent next. A machine over bytes; the `link` room drives it.
//!
//! ```text
//!             open / accept                  END sent and taken, END taken
//!   (none) ─────────────────► open ──────────────────────────────────────────► (none)
//!                              │ │      either direction may end first
//!                              │ └── RESET sent or received, or lost in a resume ──► (none)
//!                              └──── the link breaks: kept; resume() goes on from the peer's positions
//! ```
//!
//! Each direction numbers its bytes. The sender keeps what was not acknowledged and never has more than [`WINDOW`]
//! bytes or [`MAX_FRAMES`] frames of it; the receiver holds it to that, so a hostile peer cannot fill the memory.
//! One direction's halves are in `outgoing` and `arriving`; what a broken link needs is in `resume`.

mod arriving;
mod error;
mod outgoing;
mod parking;
mod resume;

pub use error::{OpenError, ProtocolError};

use crate::frame::{Frame, Header, Kind, MAX_REQUEST};
use crate::message::Lane;
use arriving::Arriving;
use bytes::{Bytes, BytesMut};
use outgoing::Outgoing;
use parking::Parking;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// Bytes that a direction may have sent beyond those that the receiver took. A request may exceed it.
pub const WINDOW: u64 = 256 * 1024;
/// Frames that a direction may have sent beyond those that the receiver took.
pub const MAX_FRAMES: usize = 1024;
/// Streams that one side may have open.
pub const MAX_STREAMS: usize = 4096;
/// Bytes that all streams together may hold untaken before further ones are reset.
pub const MAX_QUEUED: usize = 256 * 1024 * 1024;

/// Resets that may wait to be sent; only a peer that opens streams and hears no answers gets there.
const MAX_RESETS: usize = 4 * MAX_STREAMS;

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The host, or a client of `control.sock`: opens streams with even numbers.
    Host,
    /// The guest, or the owner's side of `control.sock`: opens streams with odd numbers.
    Guest,
}

impl Role {
    fn first(self) -> u32 {
        match self {
            Role::Host => 2,
            Role::Guest => 1,
        }
    }
}

/// A stream's number, never used again in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u32);

impl StreamId {
    /// The number as it travels.
    pub fn get(self) -> u32 {
        self.0
    }

    fn opened_by(self, role: Role) -> bool {
        self.0 % 2 == role.first() % 2
    }
}

/// What the peer's bytes changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream: [`Mux::accept`] gives it.
    Opened,
    /// A stream that had nothing to take now has.
    Readable(StreamId),
    /// A stream's credit has grown.
    Writable(StreamId),
    /// A stream is gone, and why.
    Reset(StreamId, String),
}

/// What a stream has to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The payload of one frame.
    Item(Lane, Bytes),
    /// The peer has ended this direction, and all before was taken.
    End,
    /// Nothing yet.
    Nothing,
    /// The stream is over.
    Gone,
}

#[derive(Debug)]
struct Stream {
    outgoing: Outgoing,
    arriving: Arriving,
}

/// One end of a session.
#[derive(Debug)]
pub struct Mux {
    role: Role,
    /// The number of the next stream that this side opens.
    next: u32,
    /// The highest number that the peer has opened.
    newest: u32,
    streams: HashMap<StreamId, Stream>,
    /// How many of them this side opened.
    own: usize,
    /// Opened by the peer and not yet accepted.
    waiting: BTreeSet<StreamId>,
    /// Bytes that all streams hold untaken.
    queued: usize,
    outbox: Outbox,
    parking: Parking,
    events: VecDeque<Event>,
}

/// What is to be sent, in the order of urgency.
#[derive(Debug, Default)]
struct Outbox {
    resets: VecDeque<(StreamId, String)>,
    /// Streams with an acknowledgement due, each once.
    acks: VecDeque<StreamId>,
    /// Own streams whose request was not sent. In the order of their numbers: the peer knows used ones by the highest.
    opens: VecDeque<StreamId>,
    /// Streams with frames to send, each once, served in turn.
    ready: VecDeque<StreamId>,
}

impl Mux {
    /// A session without streams.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            next: role.first(),
            newest: 0,
            streams: HashMap::new(),
            own: 0,
            waiting: BTreeSet::new(),
            queued: 0,
            outbox: Outbox::default(),
            parking: Parking::default(),
            events: VecDeque::new(),
        }
    }

    /// Opens a stream with a request of at most [`MAX_REQUEST`] bytes.
    pub fn open(&mut self, request: Bytes) -> Result<StreamId, OpenError> {
        if request.len() > MAX_REQUEST {
            return Err(OpenError::Oversize { length: request.len(), limit: MAX_REQUEST });
        }
        if self.own >= MAX_STREAMS {
            return Err(OpenError::TooMany(MAX_STREAMS));
        }
        let id = StreamId(self.next);
        self.next = self.next.checked_add(2).ok_or(OpenError::Exhausted)?;
        self.own += 1;
        self.streams.insert(id, Stream { outgoing: Outgoing::opened(request), arriving: Arriving::new() });
        self.outbox.opens.push_back(id);
        Ok(id)
    }

    /// Takes the next stream that the peer opened, with its request.
    pub fn accept(&mut self) -> Option<(StreamId, Bytes)> {
        loop {
            let id = self.waiting.pop_first()?;
            if let Taken::Item(_, request) = self.take(id) {
                return Some((id, request));
            }
        }
    }

    /// Whether a frame of this many bytes may be sent on a stream now; none if the stream is over.
    pub fn may_send(&self, id: StreamId, length: usize) -> Option<bool> {
        self.streams.get(&id).map(|stream| stream.outgoing.has_credit(length))
    }

    /// Sends one frame, for which [`Mux::may_send`] said yes. On an ended or forgotten stream it does nothing.
    pub fn send(&mut self, id: StreamId, lane: Lane, payload: Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        debug_assert!(stream.outgoing.has_credit(payload.len()), "a frame was sent without credit");
        if stream.arriving.goes_along() {
            self.outbox.acks.push_back(id);
        }
        if stream.outgoing.push(lane, payload) {
            self.outbox.ready.push_back(id);
        }
    }

    /// Ends the outgoing direction after what was sent.
    pub fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.outgoing.finish() {
            self.outbox.ready.push_back(id);
        }
    }

    /// Ends both directions at once; what was sent and not yet taken is lost. Does nothing on a forgotten stream.
    pub fn reset(&mut self, id: StreamId, reason: &str) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.outgoing.sent_any() || !id.opened_by(self.role) {
            self.outbox.resets.push_back((id, reason.to_owned()));
        }
        self.forget(id);
    }

    /// Takes the next item of a stream, and acknowledges it: in batches, or along with what is sent.
    pub fn take(&mut self, id: StreamId) -> Taken {
        let Some(stream) = self.streams.get_mut(&id) else { return Taken::Gone };
        let taken = stream.arriving.take();
        if let Taken::Item(_, bytes) = &taken {
            self.queued -= bytes.len();
        }
        self.acknowledge(id);
        taken
    }

    /// Takes no more of a stream: what arrives is dropped. Once all that was sent is acknowledged the stream is over.
    pub fn discard(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.queued -= stream.arriving.discard();
        self.acknowledge(id);
        self.settle(id);
    }

    /// Whether anything is to be sent.
    pub fn has_output(&self) -> bool {
        if let Some(spoken) = self.parking.last_word_pending() {
            return spoken;
        }
        let Outbox { resets, acks, opens, ready } = &self.outbox;
        !(resets.is_empty() && acks.is_empty() && opens.is_empty() && ready.is_empty())
    }

    /// The next frame to send. The caller sends it whole, or never sends anything again before [`Mux::resume`].
    pub fn output(&mut self) -> Option<Frame> {
        if self.parking.last_word_pending().is_some() {
            return self.parking.last_word();
        }
        if let Some((id, reason)) = self.outbox.resets.pop_front() {
            return Some(Frame::reset(id.0, &reason));
        }
        while let Some(id) = self.outbox.acks.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let frame = Frame::ack(id.0, stream.arriving.acknowledged());
            self.settle(id);
            return Some(frame);
        }
        while let Some(id) = self.outbox.opens.pop_front().or_else(|| self.outbox.ready.pop_front()) {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Some(frame) = stream.outgoing.output(id) else { continue };
            if stream.outgoing.has_output() {
                self.outbox.ready.push_back(id);
            }
            return Some(frame);
        }
        None
    }

    /// Hears the peer's bytes: takes whole frames off the front of `input` and leaves the rest.
    pub fn feed(&mut self, input: &mut BytesMut) -> Result<(), ProtocolError> {
        while let Some(frame) = Frame::take(input)? {
            let id = StreamId(frame.header.stream);
            match frame.header.kind {
                Kind::Data if frame.header.flags.open => self.opened(id, frame)?,
                Kind::Data => self.data(id, frame)?,
                Kind::Ack => self.acked(id, frame.header.offset)?,
                Kind::Reset => self.was_reset(id, &frame)?,
                Kind::Session => self.parking.hear(self.role, &frame.payload),
            }
        }
        Ok(())
    }

    /// What changed by the bytes fed so far.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Bytes that have arrived on all streams and were not taken.
    pub fn queued(&self) -> usize {
        self.queued
    }

    fn opened(&mut self, id: StreamId, frame: Frame) -> Result<(), ProtocolError> {
        if id.opened_by(self.role) {
            return Err(ProtocolError::Parity(id));
        }
        if self.streams.contains_key(&id) {
            return Err(ProtocolError::Reopened(id));
        }
        if self.outbox.resets.len() >= MAX_RESETS {
            return Err(ProtocolError::Flood);
        }
        if id.0 <= self.newest {
            // After a resume the peer may not know that its request had arrived and that the stream is over.
            self.outbox.resets.push_back((id, "the stream is over".to_owned()));
            return Ok(());
        }
        if self.streams.len() - self.own >= MAX_STREAMS {
            return Err(ProtocolError::TooMany(MAX_STREAMS));
        }
        self.newest = id.0;
        self.streams.insert(id, Stream { outgoing: Outgoing::accepted(), arriving: Arriving::new() });
        self.waiting.insert(id);
        self.data(id, frame)?;
        self.events.push_back(Event::Opened);
        Ok(())
    }

    fn data(&mut self, id: StreamId, frame: Frame) -> Result<(), ProtocolError> {
        let Some(stream) = self.streams.get_mut(&id) else { return self.late(id) };
        let was_empty = stream.arriving.is_empty();
        self.queued += stream.arriving.push(id, frame)?;
        if self.queued > MAX_QUEUED {
            let reason = format!("more than {MAX_QUEUED} bytes of the session wait to be taken");
            self.reset(id, &reason);
            self.events.push_back(Event::Reset(id, reason));
            return Ok(());
        }
        if was_empty && !stream.arriving.is_empty() {
            self.events.push_back(Event::Readable(id));
        }
        self.acknowledge(id);
        Ok(())
    }

    fn acked(&mut self, id: StreamId, offset: u64) -> Result<(), ProtocolError> {
        let Some(stream) = self.streams.get_mut(&id) else { return self.late(id) };
        stream.outgoing.acked(id, offset)?;
        self.events.push_back(Event::Writable(id));
        self.settle(id);
        Ok(())
    }

    fn was_reset(&mut self, id: StreamId, frame: &Frame) -> Result<(), ProtocolError> {
        if !self.streams.contains_key(&id) {
            return self.late(id);
        }
        self.forget(id);
        self.events.push_back(Event::Reset(id, frame.reason()));
        Ok(())
    }

    /// A frame for an unknown stream is fine if the stream is over: the peer had not heard of that yet.
    fn late(&self, id: StreamId) -> Result<(), ProtocolError> {
        let over = if id.opened_by(self.role) { id.0 < self.next } else { id.0 <= self.newest };
        if over { Ok(()) } else { Err(ProtocolError::Unopened(id)) }
    }

    fn acknowledge(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.arriving.falls_due() {
            self.outbox.acks.push_back(id);
        }
    }

    /// Forgets a stream when both directions are over, or when nobody takes what could still arrive.
    fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else { return };
        if !stream.outgoing.is_over() {
            return;
        }
        if stream.arriving.is_over() {
            self.forget(id);
        } else if stream.arriving.is_unwanted() {
            self.reset(id, "nobody takes the answer");
        }
    }

    fn forget(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        self.queued -= stream.arriving.discard();
        self.own -= usize::from(id.opened_by(self.role));
        self.waiting.remove(&id);
    }
}

impl Frame {
    fn data(id: StreamId, header: Header, payload: Bytes) -> Self {
        Self { header: Header { kind: Kind::Data, stream: id.0, length: payload.len() as u32, ..header }, payload }
    }
}

#[cfg(test)]
mod tests;
