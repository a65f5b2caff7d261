//! Two honest peers and a link that breaks at any moment: what was sent arrives, once, in order, with its ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{Bytes, BytesMut};
use fcvm_proto::frame::MAX_DATA;
use fcvm_proto::message::Lane;
use fcvm_proto::session::{Event, Mux, Role, StreamId, Taken};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug)]
enum Side {
    Host,
    Guest,
}

#[derive(Clone, Debug)]
enum Act {
    Open(Side, usize),
    Accept(Side),
    Send(Side, usize, usize),
    Finish(Side, usize),
    Take(Side, usize, usize),
    Reset(Side, usize),
    /// Hands up to so many frames to the link, of which up to so many bytes arrive.
    Travel(Side, usize, usize),
    Cut,
}

fn act() -> impl Strategy<Value = Act> {
    let side = || prop_oneof![Just(Side::Host), Just(Side::Guest)];
    let length = || prop_oneof![4 => 0..64usize, 2 => 0..=MAX_DATA];
    let request = prop_oneof![8 => 0..64usize, 1 => 0..400_000usize];
    let travel = prop_oneof![1 => 1..64usize, 2 => 1..200_000usize];
    prop_oneof![
        3 => (side(), request).prop_map(|(side, length)| Act::Open(side, length)),
        3 => side().prop_map(Act::Accept),
        8 => (side(), 0..6usize, length()).prop_map(|(side, stream, length)| Act::Send(side, stream, length)),
        2 => (side(), 0..6usize).prop_map(|(side, stream)| Act::Finish(side, stream)),
        6 => (side(), 0..6usize, 1..5usize).prop_map(|(side, stream, count)| Act::Take(side, stream, count)),
        9 => (side(), 1..9usize, travel).prop_map(|(side, frames, bytes)| Act::Travel(side, frames, bytes)),
        2 => Just(Act::Cut),
    ]
}

fn act_or_reset() -> impl Strategy<Value = Act> {
    let reset = (prop_oneof![Just(Side::Host), Just(Side::Guest)], 0..6usize);
    prop_oneof![18 => act(), 1 => reset.prop_map(|(side, stream)| Act::Reset(side, stream))]
}

/// One side's view of a stream.
#[derive(Debug, Default)]
struct View {
    sent: Vec<(Lane, Bytes)>,
    finished: bool,
    taken: Vec<(Lane, Bytes)>,
    ended: bool,
    reset: bool,
}

struct Peer {
    mux: Mux,
    input: BytesMut,
    /// What was written and has not arrived.
    link: BytesMut,
    views: BTreeMap<StreamId, View>,
    requests: BTreeMap<StreamId, Bytes>,
    accepted: BTreeSet<StreamId>,
}

impl Peer {
    fn new(role: Role) -> Self {
        Self {
            mux: Mux::new(role),
            input: BytesMut::new(),
            link: BytesMut::new(),
            views: BTreeMap::new(),
            requests: BTreeMap::new(),
            accepted: BTreeSet::new(),
        }
    }

    fn pick(&self, index: usize) -> Option<StreamId> {
        let live: Vec<_> = self.views.iter().filter(|(_, view)| !view.reset).map(|(id, _)| *id).collect();
        (!live.is_empty()).then(|| live[index % live.len()])
    }

    fn open(&mut self, length: usize, serial: usize) {
        let request = filled(length, serial);
        let id = self.mux.open(request.clone()).unwrap();
        self.requests.insert(id, request);
        self.views.insert(id, View::default());
    }

    fn accept(&mut self, opener: &Peer) -> bool {
        let Some((id, request)) = self.mux.accept() else { return false };
        assert_eq!(&request, &opener.requests[&id], "the request of {id:?}");
        assert!(self.accepted.insert(id), "{id:?} was accepted twice");
        self.views.insert(id, View::default());
        true
    }

    fn send(&mut self, index: usize, length: usize, serial: usize) {
        let Some(id) = self.pick(index) else { return };
        let view = self.views.get_mut(&id).unwrap();
        if view.finished || self.mux.may_send(id, length) != Some(true) {
            return;
        }
        let lane = [Lane::Message, Lane::Data, Lane::Error][serial % 3];
        let bytes = filled(length, serial);
        self.mux.send(id, lane, bytes.clone());
        view.sent.push((lane, bytes));
    }

    fn finish(&mut self, index: usize) {
        let Some(id) = self.pick(index) else { return };
        self.mux.finish(id);
        self.views.get_mut(&id).unwrap().finished = true;
    }

    /// Takes up to so many items; whether there were any.
    fn take(&mut self, id: StreamId, count: usize) -> bool {
        let view = self.views.get_mut(&id).unwrap();
        for index in 0..count {
            if view.ended || view.reset {
                return index > 0;
            }
            match self.mux.take(id) {
                Taken::Item(lane, bytes) => view.taken.push((lane, bytes)),
                Taken::End => view.ended = true,
                Taken::Nothing => return index > 0,
                Taken::Gone => panic!("{id:?} is gone without a word"),
            }
        }
        true
    }

    fn reset(&mut self, index: usize) {
        let Some(id) = self.pick(index) else { return };
        self.mux.reset(id, "enough");
        self.views.get_mut(&id).unwrap().reset = true;
    }

    fn write(&mut self, frames: usize) {
        for frame in std::iter::from_fn(|| self.mux.output()).take(frames) {
            self.link.extend_from_slice(&frame.header.encode());
            self.link.extend_from_slice(&frame.payload);
        }
    }

    fn hear(&mut self, bytes: BytesMut) {
        self.input.unsplit(bytes);
        self.mux.feed(&mut self.input).unwrap();
        self.note_resets();
    }

    fn note_resets(&mut self) {
        while let Some(event) = self.mux.event() {
            if let Event::Reset(id, _) = event {
                self.views.entry(id).or_default().reset = true;
            }
        }
    }
}

fn filled(length: usize, serial: usize) -> Bytes {
    vec![serial as u8; length].into()
}

struct World {
    host: Peer,
    guest: Peer,
    serial: usize,
}

impl World {
    fn new() -> Self {
        Self { host: Peer::new(Role::Host), guest: Peer::new(Role::Guest), serial: 0 }
    }

    fn sides(&mut self, side: Side) -> (&mut Peer, &mut Peer) {
        match side {
            Side::Host => (&mut self.host, &mut self.guest),
            Side::Guest => (&mut self.guest, &mut self.host),
        }
    }

    fn act(&mut self, act: Act) {
        self.serial += 1;
        let serial = self.serial;
        match act {
            Act::Open(side, length) => self.sides(side).0.open(length, serial),
            Act::Accept(side) => {
                let (acceptor, opener) = self.sides(side);
                acceptor.accept(opener);
            }
            Act::Send(side, index, length) => self.sides(side).0.send(index, length, serial),
            Act::Finish(side, index) => self.sides(side).0.finish(index),
            Act::Take(side, index, count) => {
                let (taker, _) = self.sides(side);
                taker.pick(index).map(|id| taker.take(id, count));
            }
            Act::Reset(side, index) => self.sides(side).0.reset(index),
            Act::Travel(side, frames, bytes) => drop(self.travel(side, frames, bytes)),
            Act::Cut => self.cut(),
        }
    }

    /// Moves bytes from this side to the other; whether there were any.
    fn travel(&mut self, side: Side, frames: usize, bytes: usize) -> bool {
        let (from, to) = self.sides(side);
        from.write(frames);
        let arrived = from.link.split_to(bytes.min(from.link.len()));
        let moved = !arrived.is_empty();
        to.hear(arrived);
        moved
    }

    fn cut(&mut self) {
        let Self { host, guest, .. } = self;
        for peer in [&mut *host, &mut *guest] {
            peer.link.clear();
            peer.input.clear();
        }
        let (of_host, of_guest) = (host.mux.positions(), guest.mux.positions());
        host.mux.resume(&of_guest).unwrap();
        guest.mux.resume(&of_host).unwrap();
        host.note_resets();
        guest.note_resets();
    }

    /// Ends all streams, and lets both sides do what they can until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for side in [Side::Host, Side::Guest] {
                moved |= self.travel(side, usize::MAX, usize::MAX);
                let (peer, other) = self.sides(side);
                while peer.accept(other) {
                    moved = true;
                }
                for id in peer.views.keys().copied().collect::<Vec<_>>() {
                    moved |= peer.take(id, 1);
                    peer.mux.finish(id);
                }
                moved |= peer.mux.has_output();
            }
            if !moved {
                return;
            }
        }
    }

    fn check(&self) {
        for (from, to) in [(&self.host, &self.guest), (&self.guest, &self.host)] {
            for (id, view) in &from.views {
                let Some(other) = to.views.get(id) else {
                    assert!(view.reset, "{id:?} never arrived");
                    continue;
                };
                if view.reset || other.reset {
                    assert!(view.sent.starts_with(&other.taken), "{id:?} took what was not sent");
                } else {
                    assert_eq!(view.sent, other.taken, "{id:?}");
                    assert!(other.ended, "{id:?} did not end");
                }
            }
            assert!(from.mux.is_empty(), "streams are left: {:?}", from.mux.positions());
            assert_eq!(from.mux.queued(), 0);
        }
    }
}

fn run(acts: Vec<Act>) -> World {
    let mut world = World::new();
    acts.into_iter().for_each(|act| world.act(act));
    world.settle();
    world.check();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn without_resets_everything_arrives_once_and_in_order(acts in prop::collection::vec(act(), 1..160)) {
        let world = run(acts);
        for peer in [&world.host, &world.guest] {
            prop_assert!(peer.views.values().all(|view| !view.reset));
        }
    }

    #[test]
    fn with_resets_nothing_arrives_twice_and_nothing_is_left(acts in prop::collection::vec(act_or_reset(), 1..160)) {
        run(acts);
    }
}
