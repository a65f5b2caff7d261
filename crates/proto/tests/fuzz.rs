//! Hostile bytes: whatever a peer sends, a session neither panics nor grows beyond its limits.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::{BufMut, Bytes, BytesMut};
use fcvm_proto::frame::{Frame, HEADER, MAX_REQUEST};
use fcvm_proto::message::{GuestRequest, Hello, HostRequest, ProcessEvent, StreamPosition, Verdict};
use fcvm_proto::preamble::{Answering, Calling, MAGIC};
use fcvm_proto::session::{Event, MAX_FRAMES, MAX_STREAMS, Mux, Role, Taken, WINDOW};
use proptest::prelude::*;

/// A frame as a hostile peer writes it: mostly plausible, so that it gets past the first check.
#[derive(Clone, Debug)]
struct Forged {
    kind: u8,
    lane: u8,
    flags: u16,
    stream: u32,
    offset: Offset,
    length: usize,
}

#[derive(Clone, Debug)]
enum Offset {
    /// What the receiver expects.
    Next,
    Any(u64),
}

fn forged() -> impl Strategy<Value = Forged> {
    let kind = prop_oneof![8 => Just(1u8), 3 => Just(2), 1 => Just(3), 1 => Just(4), 1 => any::<u8>()];
    let flags = prop_oneof![6 => Just(0u16), 3 => Just(2), 1 => Just(1), 1 => Just(3)];
    let stream = prop_oneof![8 => 0..12u32, 1 => any::<u32>()];
    let offset = prop_oneof![6 => Just(Offset::Next), 2 => (0..64u64).prop_map(Offset::Any), 1 => any::<u64>().prop_map(Offset::Any)];
    let length = prop_oneof![6 => 0..40usize, 2 => 0..70_000usize, 1 => Just(MAX_REQUEST)];
    (kind, 0..3u8, flags, stream, offset, length).prop_map(|(kind, lane, flags, stream, offset, length)| Forged {
        kind,
        lane,
        flags,
        stream,
        offset,
        length,
    })
}

/// What the owner of the attacked session does meanwhile.
#[derive(Clone, Debug)]
enum Act {
    Hear(Forged),
    HearBytes(Vec<u8>),
    Open,
    Accept,
    Take(usize),
    Send(usize, usize),
    Finish(usize),
    Discard(usize),
    Reset(usize),
    Output,
    Resume(Vec<(u32, u64)>),
}

fn act() -> impl Strategy<Value = Act> {
    let positions = prop::collection::vec((0..12u32, prop_oneof![0..64u64, any::<u64>()]), 0..4);
    prop_oneof![
        12 => forged().prop_map(Act::Hear),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Act::HearBytes),
        2 => Just(Act::Open),
        2 => Just(Act::Accept),
        2 => (0..8usize).prop_map(Act::Take),
        2 => (0..8usize, 0..65_537usize).prop_map(|(stream, length)| Act::Send(stream, length)),
        1 => (0..8usize).prop_map(Act::Finish),
        1 => (0..8usize).prop_map(Act::Discard),
        1 => (0..8usize).prop_map(Act::Reset),
        2 => Just(Act::Output),
        1 => positions.prop_map(Act::Resume),
    ]
}

struct Attacked {
    mux: Mux,
    input: BytesMut,
    streams: Vec<fcvm_proto::session::StreamId>,
}

impl Attacked {
    /// Does one act; false once the session is over.
    fn act(&mut self, act: Act) -> bool {
        let Self { mux, input, streams } = self;
        let pick = |index: usize| streams.get(index).copied();
        match act {
            Act::Hear(forged) => {
                self.write(forged);
                return self.hear();
            }
            Act::HearBytes(bytes) => {
                input.extend_from_slice(&bytes);
                return self.hear();
            }
            Act::Open => streams.extend(mux.open(Bytes::from_static(b"{}"))),
            Act::Accept => streams.extend(mux.accept().map(|(id, _)| id)),
            Act::Take(index) => drop(pick(index).map(|id| mux.take(id))),
            Act::Send(index, length) => {
                if let Some(id) = pick(index).filter(|id| mux.may_send(*id, length) == Some(true)) {
                    mux.send(id, fcvm_proto::message::Lane::Data, vec![0; length].into());
                }
            }
            Act::Finish(index) => drop(pick(index).map(|id| mux.finish(id))),
            Act::Discard(index) => drop(pick(index).map(|id| mux.discard(id))),
            Act::Reset(index) => drop(pick(index).map(|id| mux.reset(id, "enough"))),
            Act::Output => while mux.output().is_some() {},
            Act::Resume(positions) => {
                let position = |(stream, received)| StreamPosition { stream, received };
                let positions: Vec<_> = positions.into_iter().map(position).collect();
                input.clear();
                return mux.resume(&positions).is_ok();
            }
        }
        true
    }

    fn write(&mut self, Forged { kind, lane, flags, stream, offset, length }: Forged) {
        let next = self.mux.positions().into_iter().find(|position| position.stream == stream);
        let offset = match offset {
            Offset::Next => next.map_or(0, |position| position.received),
            Offset::Any(offset) => offset,
        };
        // Acknowledgements carry nothing, requests travel on the first lane: else nothing gets far.
        let length = if kind == 2 { 0 } else { length };
        let lane = if kind == 1 && flags & 2 == 0 { lane } else { 0 };
        self.input.put_u8(kind);
        self.input.put_u8(lane);
        self.input.put_u16(if kind == 1 { flags } else { 0 });
        self.input.put_u32(if kind == 4 { 0 } else { stream });
        self.input.put_u32(length as u32);
        self.input.put_u64(if kind > 2 { 0 } else { offset });
        self.input.put_bytes(b'x', length);
    }

    fn hear(&mut self) -> bool {
        let result = self.mux.feed(&mut self.input);
        while let Some(event) = self.mux.event() {
            if let Event::Reset(id, _) = event {
                assert_eq!(self.mux.take(id), Taken::Gone);
            }
        }
        result.is_ok()
    }

    fn check(&self) {
        assert!(self.mux.len() <= 2 * MAX_STREAMS);
        let most = self.mux.len() * (WINDOW as usize + MAX_REQUEST);
        assert!(self.mux.queued() <= most, "{} bytes are queued by {} streams", self.mux.queued(), self.mux.len());
        assert!(self.input.len() < HEADER + MAX_REQUEST, "a frame that cannot be is awaited");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn forged_frames_neither_panic_nor_fill_the_memory(acts in prop::collection::vec(act(), 1..80), host: bool) {
        let role = if host { Role::Host } else { Role::Guest };
        let mut attacked = Attacked { mux: Mux::new(role), input: BytesMut::new(), streams: Vec::new() };
        for act in acts {
            let goes_on = attacked.act(act);
            if !goes_on {
                break;
            }
            attacked.check();
        }
    }

    #[test]
    fn random_bytes_are_no_session(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut input = BytesMut::from(&bytes[..]);
        let mut mux = Mux::new(Role::Host);
        let result = mux.feed(&mut input);
        prop_assert!(result.is_err() || input.len() < HEADER + MAX_REQUEST);
        drop(Frame::take(&mut input));
    }

    #[test]
    fn random_bytes_around_the_magic_neither_panic_nor_confirm(
        pieces in prop::collection::vec(prop_oneof![Just(MAGIC.to_vec()), prop::collection::vec(any::<u8>(), 0..40)], 0..40),
    ) {
        let (mut guest, mut host) = (Calling::new([0x5a; 16]), Answering::new([0xa5; 16]));
        for piece in pieces {
            let confirmed = matches!(host.feed(&piece), fcvm_proto::preamble::Heard::Confirmation(_));
            prop_assert!(!confirmed);
            prop_assert_eq!(guest.feed(&piece), None);
        }
    }

    #[test]
    fn random_text_is_decoded_or_refused(text in r#"[{}\[\]":,a-z0-9-]{0,64}"#) {
        drop(serde_json::from_str::<Hello>(&text));
        drop(serde_json::from_str::<Verdict>(&text));
        drop(serde_json::from_str::<HostRequest>(&text));
        drop(serde_json::from_str::<GuestRequest>(&text));
        drop(serde_json::from_str::<ProcessEvent>(&text));
    }
}

#[test]
fn a_stream_holds_no_more_frames_than_allowed_however_small_they_are() {
    let mut mux = Mux::new(Role::Guest);
    let mut input = BytesMut::new();
    let put = |flags: u16, offset: u64, input: &mut BytesMut| {
        input.put_slice(&[1, 0]);
        input.put_u16(flags);
        input.put_u32(2);
        input.put_u32(0);
        input.put_u64(offset);
    };
    put(2, 0, &mut input);
    for offset in 1..MAX_FRAMES as u64 {
        put(0, offset, &mut input);
    }
    assert_eq!(mux.feed(&mut input), Ok(()));
    put(0, MAX_FRAMES as u64, &mut input);
    assert!(mux.feed(&mut input).is_err());
}
