//! What a session does when its link broke and a new one stands: it goes on from what the peer has received.
//!
//! Both sides tell their [`Mux::positions`] and hear the other's with [`Mux::resume`]. Each judges a stream that the
//! peer does not list by itself, and both come to the same end:
//!
//! - both directions had ended here: only the last acknowledgement was lost, the stream is over;
//! - this side opened it and has never heard of it: the request may be lost, it is sent again. A peer that had it and
//!   ended it knows the number and answers with a reset, it does not act on it twice;
//! - else the peer has reset it.

use super::{Event, Mux, Outbox, Parking, ProtocolError, StreamId};
use crate::message::StreamPosition;
use std::collections::HashMap;

impl Mux {
    /// What this side has received of each open stream.
    pub fn positions(&self) -> Vec<StreamPosition> {
        let mut positions: Vec<_> = self
            .streams
            .iter()
            .map(|(id, stream)| StreamPosition { stream: id.get(), received: stream.arriving.received() })
            .collect();
        positions.sort_by_key(|position| position.stream);
        positions
    }

    /// Goes on over a new link from what the peer has received. No frame of the old link may be fed any more.
    pub fn resume(&mut self, peer: &[StreamPosition]) -> Result<(), ProtocolError> {
        let positions = self.judge(peer)?;
        let mut ids: Vec<_> = self.streams.keys().copied().collect();
        ids.sort_unstable();
        self.outbox = Outbox::default();
        self.parking = Parking::Open;
        for id in ids {
            match positions.get(&id) {
                Some(received) => self.go_on(id, *received)?,
                None => self.unlisted(id)?,
            }
        }
        Ok(())
    }

    fn judge(&self, peer: &[StreamPosition]) -> Result<HashMap<StreamId, u64>, ProtocolError> {
        let mut positions = HashMap::with_capacity(peer.len());
        for StreamPosition { stream, received } in peer {
            let id = StreamId(*stream);
            // A stream that the peer opened may be unknown here: its request was lost and comes again.
            if id.opened_by(self.role) {
                self.late(id)?;
            }
            if positions.insert(id, *received).is_some() {
                return Err(ProtocolError::Listed(id));
            }
        }
        Ok(positions)
    }

    fn go_on(&mut self, id: StreamId, received: u64) -> Result<(), ProtocolError> {
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        stream.outgoing.rewind(id, received)?;
        if stream.arriving.repeat() {
            self.outbox.acks.push_back(id);
        }
        if stream.outgoing.opens() {
            self.outbox.opens.push_back(id);
        } else if stream.outgoing.has_output() {
            self.outbox.ready.push_back(id);
        }
        Ok(())
    }

    fn unlisted(&mut self, id: StreamId) -> Result<(), ProtocolError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(()) };
        let heard_of = stream.outgoing.acked_any() || stream.arriving.received() > 0;
        if stream.outgoing.has_ended() && stream.arriving.has_ended() {
            self.forget(id);
        } else if id.opened_by(self.role) && !heard_of {
            self.go_on(id, 0)?;
        } else {
            self.forget(id);
            self.events.push_back(Event::Reset(id, "the other side reset the stream while the link was down".into()));
        }
        Ok(())
    }
}
