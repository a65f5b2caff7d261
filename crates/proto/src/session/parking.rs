//! The orderly end of a link's use before the machine is saved: each side says its last word and falls silent.
//!
//! ```text
//! host:   open ── park() ──► says Park ──► silent ── hears Parked ──► parked
//! guest:  open ── hears Park ──► says Parked ──► parked
//! ```
//! Streams stay as they are and go on after [`super::Mux::resume`].

use super::{Mux, Role};
use crate::frame::Frame;
use crate::message::SessionMessage;

/// How far this side is.
#[derive(Debug, Default)]
pub(super) enum Parking {
    /// Frames go both ways.
    #[default]
    Open,
    /// This is to be said, and nothing after it.
    Speaking(SessionMessage),
    /// All was said; the other side has not said its last word.
    Silent,
    /// Both have said theirs.
    Parked,
}

impl Parking {
    /// Whether the last word is still to be said; none if it is not time for it.
    pub(super) fn last_word_pending(&self) -> Option<bool> {
        match self {
            Self::Open => None,
            Self::Speaking(_) => Some(true),
            Self::Silent | Self::Parked => Some(false),
        }
    }

    pub(super) fn last_word(&mut self) -> Option<Frame> {
        let Self::Speaking(word) = self else { return None };
        let frame = Frame::session(word).expect("a word becomes a frame");
        *self = match word {
            SessionMessage::Park => Self::Silent,
            SessionMessage::Parked => Self::Parked,
        };
        Some(frame)
    }

    /// Hears a message. One of a later version can be missed; so can one that makes no sense now.
    pub(super) fn hear(&mut self, role: Role, payload: &[u8]) {
        match (serde_json::from_slice(payload), role, &self) {
            (Ok(SessionMessage::Park), Role::Guest, Self::Open) => *self = Self::Speaking(SessionMessage::Parked),
            (Ok(SessionMessage::Parked), Role::Host, Self::Silent) => *self = Self::Parked,
            _ => {}
        }
    }
}

impl Mux {
    /// Says that this side will be silent, after which the other side falls silent too. The host's to do.
    pub fn park(&mut self) {
        if let Parking::Open = self.parking {
            self.parking = Parking::Speaking(SessionMessage::Park);
        }
    }

    /// Whether both sides have said their last word. [`Mux::resume`] ends that.
    pub fn is_parked(&self) -> bool {
        matches!(self.parking, Parking::Parked)
    }
}

#[cfg(test)]
mod tests {
    use crate::message::Lane;
    use crate::session::{Mux, Role, Taken};
    use bytes::{Bytes, BytesMut};

    fn pass(from: &mut Mux, to: &mut Mux) {
        let mut bytes = BytesMut::new();
        while let Some(frame) = from.output() {
            bytes.extend_from_slice(&frame.header.encode());
            bytes.extend_from_slice(&frame.payload);
        }
        to.feed(&mut bytes).unwrap();
        assert!(bytes.is_empty());
    }

    #[test]
    fn both_fall_silent_and_go_on_with_what_was_kept() {
        let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
        let id = host.open(Bytes::from_static(b"{}")).unwrap();
        pass(&mut host, &mut guest);
        guest.accept().unwrap();
        guest.send(id, Lane::Data, Bytes::from_static(b"before"));
        host.park();
        host.send(id, Lane::Data, Bytes::from_static(b"kept"));
        pass(&mut host, &mut guest);
        guest.send(id, Lane::Data, Bytes::from_static(b"kept too"));
        assert!(guest.has_output() && !guest.is_parked());
        pass(&mut guest, &mut host);
        assert!(host.is_parked() && guest.is_parked());
        assert!(!host.has_output() && !guest.has_output());
        let (hosts, guests) = (host.positions(), guest.positions());
        host.resume(&guests).unwrap();
        guest.resume(&hosts).unwrap();
        pass(&mut host, &mut guest);
        pass(&mut guest, &mut host);
        assert_eq!(guest.take(id), Taken::Item(Lane::Data, Bytes::from_static(b"kept")));
        assert_eq!(host.take(id), Taken::Item(Lane::Data, Bytes::from_static(b"before")));
        assert_eq!(host.take(id), Taken::Item(Lane::Data, Bytes::from_static(b"kept too")));
    }

    #[test]
    fn a_guest_that_parks_unasked_is_not_heard() {
        let mut host = Mux::new(Role::Host);
        let frame = crate::frame::Frame::session(&crate::message::SessionMessage::Parked).unwrap();
        let mut bytes = BytesMut::from(&frame.header.encode()[..]);
        bytes.extend_from_slice(&frame.payload);
        host.feed(&mut bytes).unwrap();
        assert!(!host.is_parked());
        assert!(host.output().is_none());
    }
}
