use super::*;
use crate::frame::{Flags, HEADER, MAX_DATA};
use crate::message::StreamPosition;

const REQUEST: &[u8] = b"{}";

fn id(number: u32) -> StreamId {
    StreamId(number)
}

/// All that a mux has to send, as bytes.
fn output(mux: &mut Mux) -> BytesMut {
    let mut bytes = BytesMut::new();
    while let Some(frame) = mux.output() {
        bytes.extend_from_slice(&frame.header.encode());
        bytes.extend_from_slice(&frame.payload);
    }
    bytes
}

fn deliver(from: &mut Mux, to: &mut Mux) {
    to.feed(&mut output(from)).unwrap();
}

/// Delivers until neither side has anything to send.
fn settle(a: &mut Mux, b: &mut Mux) {
    while a.has_output() || b.has_output() {
        deliver(a, b);
        deliver(b, a);
    }
}

fn events(mux: &mut Mux) -> Vec<Event> {
    std::iter::from_fn(|| mux.event()).collect()
}

fn item(bytes: &[u8]) -> Taken {
    Taken::Item(Lane::Data, Bytes::copy_from_slice(bytes))
}

fn send(mux: &mut Mux, id: StreamId, bytes: &[u8]) {
    assert_eq!(mux.may_send(id, bytes.len()), Some(true));
    mux.send(id, Lane::Data, Bytes::copy_from_slice(bytes));
}

/// Two sides with a stream that the host opened and the guest accepted.
fn connected() -> (Mux, Mux, StreamId) {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let id = host.open(Bytes::from_static(REQUEST)).unwrap();
    deliver(&mut host, &mut guest);
    assert_eq!(guest.accept(), Some((id, Bytes::from_static(REQUEST))));
    settle(&mut host, &mut guest);
    events(&mut host);
    events(&mut guest);
    (host, guest, id)
}

fn data_frame(stream: u32, offset: u64, length: usize, flags: Flags) -> BytesMut {
    let lane = if flags.open { Lane::Message } else { Lane::Data };
    let header = Header { kind: Kind::Data, lane, flags, stream, length: length as u32, offset };
    let mut bytes = BytesMut::from(&header.encode()[..]);
    bytes.resize(HEADER + length, b'x');
    bytes
}

const PLAIN: Flags = Flags { end: false, open: false };
const OPEN: Flags = Flags { end: false, open: true };
const END: Flags = Flags { end: true, open: false };

#[test]
fn host_numbers_are_even_and_guest_numbers_odd_and_none_comes_twice() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let open = |mux: &mut Mux| mux.open(Bytes::new()).unwrap().get();
    assert_eq!([open(&mut host), open(&mut host)], [2, 4]);
    assert_eq!([open(&mut guest), open(&mut guest)], [1, 3]);
    host.reset(id(4), "over");
    assert_eq!(open(&mut host), 6);
}

#[test]
fn bytes_and_ends_arrive_in_order_and_the_stream_is_forgotten() {
    let (mut host, mut guest, id) = connected();
    send(&mut host, id, b"one");
    send(&mut host, id, b"two");
    host.finish(id);
    deliver(&mut host, &mut guest);
    assert_eq!(events(&mut guest), [Event::Readable(id)]);
    assert_eq!([guest.take(id), guest.take(id), guest.take(id)], [item(b"one"), item(b"two"), Taken::End]);
    send(&mut guest, id, b"answer after the end");
    guest.finish(id);
    settle(&mut host, &mut guest);
    assert_eq!([host.take(id), host.take(id)], [item(b"answer after the end"), Taken::End]);
    settle(&mut host, &mut guest);
    assert!(host.is_empty() && guest.is_empty());
}

#[test]
fn an_end_travels_with_the_last_unsent_frame() {
    let (mut host, _, id) = connected();
    send(&mut host, id, b"last");
    host.finish(id);
    let frame = host.output().unwrap();
    assert!(frame.header.flags.end && &frame.payload[..] == b"last");
    assert_eq!(host.output(), None);
}

#[test]
fn an_empty_datagram_arrives_as_one() {
    let (mut host, mut guest, id) = connected();
    send(&mut host, id, b"");
    host.finish(id);
    deliver(&mut host, &mut guest);
    assert_eq!([guest.take(id), guest.take(id)], [item(b""), Taken::End]);
}

#[test]
fn a_sender_without_credit_waits_until_the_receiver_takes() {
    let (mut host, mut guest, id) = connected();
    let block = vec![0; MAX_DATA];
    for _ in 0..WINDOW as usize / MAX_DATA {
        send(&mut host, id, &block);
    }
    assert_eq!(host.may_send(id, 1), Some(false));
    settle(&mut host, &mut guest);
    assert_eq!(host.may_send(id, 1), Some(false));
    guest.take(id);
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), [Event::Writable(id)]);
    assert_eq!(host.may_send(id, MAX_DATA), Some(true));
}

#[test]
fn frames_without_bytes_use_credit_too() {
    let (mut host, mut guest, id) = connected();
    for _ in 0..MAX_FRAMES {
        send(&mut host, id, b"");
    }
    assert_eq!(host.may_send(id, 0), Some(false));
    deliver(&mut host, &mut guest);
    let more = &mut data_frame(id.get(), REQUEST.len() as u64 + MAX_FRAMES as u64, 0, PLAIN);
    assert_eq!(guest.feed(more), Err(ProtocolError::Window(id)));
}

#[test]
fn taken_bytes_are_acknowledged_in_batches_and_when_none_are_left() {
    let (mut host, mut guest, id) = connected();
    for _ in 0..4 {
        send(&mut host, id, &[0; 20_000]);
    }
    deliver(&mut host, &mut guest);
    guest.take(id);
    assert!(!guest.has_output());
    (0..3).for_each(|_| drop(guest.take(id)));
    assert_eq!(guest.output().unwrap().header.offset, REQUEST.len() as u64 + 80_000);
    assert!(!guest.has_output());
}

#[test]
fn a_little_is_acknowledged_along_with_the_answer() {
    let (mut host, mut guest, id) = connected();
    let exchange = |host: &mut Mux, guest: &mut Mux| {
        send(host, id, b"question");
        deliver(host, guest);
        assert_eq!(guest.take(id), item(b"question"));
        let alone = guest.has_output();
        send(guest, id, b"answer");
        let frames: Vec<_> = std::iter::from_fn(|| guest.output()).map(|frame| frame.header.kind).collect();
        (alone, frames)
    };
    assert_eq!(exchange(&mut host, &mut guest), (false, vec![Kind::Ack, Kind::Data]));
    // Of many questions without an answer no more than a little is kept.
    let asked = (0..).find(|_| {
        send(&mut host, id, b"x");
        deliver(&mut host, &mut guest);
        guest.take(id);
        guest.has_output()
    });
    assert_eq!(asked, Some(15));
}

#[test]
fn streams_are_served_in_turn() {
    let (mut host, _, first) = connected();
    let second = host.open(Bytes::from_static(REQUEST)).unwrap();
    for _ in 0..2 {
        send(&mut host, first, b"x");
        send(&mut host, second, b"y");
    }
    let order: Vec<_> = std::iter::from_fn(|| host.output()).map(|frame| frame.header.stream).collect();
    // The request of the new stream goes first.
    assert_eq!(order, [second, first, second, first, second].map(StreamId::get));
}

#[test]
fn a_reset_ends_both_directions_and_late_frames_are_ignored() {
    let (mut host, mut guest, id) = connected();
    send(&mut host, id, b"on its way");
    guest.reset(id, "enough");
    settle(&mut host, &mut guest);
    assert_eq!(events(&mut host), [Event::Reset(id, "enough".into())]);
    assert_eq!(host.take(id), Taken::Gone);
    assert_eq!(host.may_send(id, 1), None);
    assert!(host.is_empty() && guest.is_empty());
}

#[test]
fn a_stream_that_was_reset_before_its_request_was_sent_is_never_heard_of() {
    let mut host = Mux::new(Role::Host);
    let id = host.open(Bytes::from_static(REQUEST)).unwrap();
    host.reset(id, "changed my mind");
    assert_eq!(host.output(), None);
}

#[test]
fn a_stream_that_is_reset_before_it_is_accepted_is_not_offered() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let id = host.open(Bytes::from_static(REQUEST)).unwrap();
    deliver(&mut host, &mut guest);
    host.reset(id, "changed my mind");
    deliver(&mut host, &mut guest);
    assert_eq!(guest.accept(), None);
}

#[test]
fn an_unwanted_direction_is_dropped_and_reset_once_the_other_has_been_taken() {
    let (mut host, mut guest, id) = connected();
    send(&mut host, id, b"question");
    host.finish(id);
    host.discard(id);
    send(&mut guest, id, b"flood");
    settle(&mut host, &mut guest);
    assert_eq!(host.len(), 1, "the question was not taken yet");
    assert_eq!([guest.take(id), guest.take(id)], [item(b"question"), Taken::End]);
    settle(&mut host, &mut guest);
    assert!(host.is_empty() && guest.is_empty());
    assert!(matches!(events(&mut guest).last(), Some(Event::Reset(..))));
}

#[test]
fn bytes_in_pieces_of_one_mean_the_same() {
    let (mut host, mut guest, id) = connected();
    send(&mut host, id, b"slowly");
    let mut input = BytesMut::new();
    for byte in output(&mut host) {
        input.extend_from_slice(&[byte]);
        guest.feed(&mut input).unwrap();
    }
    assert!(input.is_empty());
    assert_eq!(guest.take(id), item(b"slowly"));
}

#[test]
fn each_breach_of_the_rules_ends_the_session_with_its_own_error() {
    let at = REQUEST.len() as u64;
    let breach = |bytes: &mut BytesMut| {
        let (_, mut guest, _) = connected();
        guest.feed(bytes).unwrap_err()
    };
    let two = |first: BytesMut, second: BytesMut| BytesMut::from(&[first, second].concat()[..]);
    let ack = |stream, offset| BytesMut::from(&Frame::ack(stream, offset).header.encode()[..]);
    assert_eq!(breach(&mut data_frame(3, 0, 1, OPEN)), ProtocolError::Parity(id(3)));
    assert_eq!(breach(&mut data_frame(2, 0, 1, OPEN)), ProtocolError::Reopened(id(2)));
    assert_eq!(breach(&mut data_frame(4, 0, 1, PLAIN)), ProtocolError::Unopened(id(4)));
    assert_eq!(breach(&mut data_frame(1, 0, 1, PLAIN)), ProtocolError::Unopened(id(1)));
    assert_eq!(
        breach(&mut data_frame(2, at + 1, 1, PLAIN)),
        ProtocolError::Gap { stream: id(2), expected: at, offset: at + 1 }
    );
    assert_eq!(
        breach(&mut two(data_frame(2, at, 1, END), data_frame(2, at + 2, 1, PLAIN))),
        ProtocolError::AfterEnd(id(2))
    );
    assert_eq!(breach(&mut ack(2, 1)), ProtocolError::AckAhead { stream: id(2), offset: 1, sent: 0 });
    assert_eq!(breach(&mut ack(8, 0)), ProtocolError::Unopened(id(8)));
    assert!(matches!(breach(&mut BytesMut::from(&[9; 20][..])), ProtocolError::Frame(_)));
}

#[test]
fn more_bytes_than_the_window_end_the_session() {
    let (_, mut guest, id) = connected();
    let mut offset = REQUEST.len() as u64;
    for _ in 0..WINDOW as usize / MAX_DATA {
        guest.feed(&mut data_frame(id.get(), offset, MAX_DATA, PLAIN)).unwrap();
        offset += MAX_DATA as u64;
    }
    assert_eq!(guest.feed(&mut data_frame(id.get(), offset, 1, PLAIN)), Err(ProtocolError::Window(id)));
}

#[test]
fn more_streams_than_allowed_are_refused_on_both_sides() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    for _ in 0..MAX_STREAMS {
        host.open(Bytes::from_static(REQUEST)).unwrap();
    }
    assert_eq!(host.open(Bytes::new()), Err(OpenError::TooMany(MAX_STREAMS)));
    deliver(&mut host, &mut guest);
    assert_eq!(guest.len(), MAX_STREAMS);
    let one_more = 2 * (MAX_STREAMS as u32 + 1);
    assert_eq!(guest.feed(&mut data_frame(one_more, 0, 1, OPEN)), Err(ProtocolError::TooMany(MAX_STREAMS)));
}

#[test]
fn a_request_longer_than_a_frame_is_not_opened() {
    let error = Mux::new(Role::Host).open(vec![0; MAX_REQUEST + 1].into());
    assert_eq!(error, Err(OpenError::Oversize { length: MAX_REQUEST + 1, limit: MAX_REQUEST }));
}

#[test]
fn a_large_request_may_exceed_the_window_but_nothing_follows_it_untaken() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let id = host.open(vec![b' '; MAX_REQUEST].into()).unwrap();
    assert_eq!(host.may_send(id, 1), Some(false));
    deliver(&mut host, &mut guest);
    assert_eq!(guest.accept().unwrap().1.len(), MAX_REQUEST);
    settle(&mut host, &mut guest);
    assert_eq!(host.may_send(id, MAX_DATA), Some(true));
}

#[test]
fn a_peer_that_opens_and_hears_no_resets_is_a_flood() {
    let mut guest = Mux::new(Role::Guest);
    let flood = (1..).find_map(|number| {
        let error = guest.feed(&mut data_frame(2 * number, 0, 1, OPEN)).err();
        guest.reset(id(2 * number), "no");
        error
    });
    assert_eq!(flood, Some(ProtocolError::Flood));
}

#[test]
fn a_stream_that_overfills_the_session_is_reset() {
    let mut guest = Mux::new(Role::Guest);
    let count = (MAX_QUEUED / MAX_REQUEST) as u32;
    for number in 1..=count + 1 {
        guest.feed(&mut data_frame(2 * number, 0, MAX_REQUEST, OPEN)).unwrap();
    }
    assert_eq!(guest.len(), count as usize);
    assert!(
        events(&mut guest).iter().any(|event| matches!(event, Event::Reset(reset, _) if reset.get() == 2 * count + 2))
    );
}

/// Breaks the link with all that is under way, and goes on over a new one.
fn cut(host: &mut Mux, guest: &mut Mux) {
    output(host);
    output(guest);
    let (of_host, of_guest) = (host.positions(), guest.positions());
    host.resume(&of_guest).unwrap();
    guest.resume(&of_host).unwrap();
}

#[test]
fn lost_bytes_are_sent_again_after_a_resume_and_received_ones_are_not() {
    let (mut host, mut guest, id) = connected();
    send(&mut host, id, b"received");
    deliver(&mut host, &mut guest);
    send(&mut host, id, b"lost");
    host.finish(id);
    cut(&mut host, &mut guest);
    settle(&mut host, &mut guest);
    assert_eq!([guest.take(id), guest.take(id), guest.take(id)], [item(b"received"), item(b"lost"), Taken::End]);
}

#[test]
fn a_lost_request_is_sent_again_after_a_resume() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let id = host.open(Bytes::from_static(REQUEST)).unwrap();
    cut(&mut host, &mut guest);
    settle(&mut host, &mut guest);
    assert_eq!(guest.accept(), Some((id, Bytes::from_static(REQUEST))));
}

#[test]
fn a_request_whose_reset_was_lost_is_not_acted_on_twice() {
    let (mut host, mut guest) = (Mux::new(Role::Host), Mux::new(Role::Guest));
    let id = host.open(Bytes::from_static(REQUEST)).unwrap();
    deliver(&mut host, &mut guest);
    assert!(guest.accept().is_some());
    guest.reset(id, "no");
    cut(&mut host, &mut guest);
    settle(&mut host, &mut guest);
    assert_eq!(guest.accept(), None);
    assert_eq!(events(&mut host), [Event::Reset(id, "the stream is over".into())]);
}

#[test]
fn a_lost_reset_is_understood_after_a_resume() {
    let (mut host, mut guest, id) = connected();
    guest.reset(id, "no");
    cut(&mut host, &mut guest);
    assert!(matches!(&events(&mut host)[..], [Event::Reset(reset, _)] if *reset == id));
    assert!(host.is_empty() && guest.is_empty());
}

#[test]
fn a_lost_last_acknowledgement_is_no_reset() {
    let (mut host, mut guest, id) = connected();
    host.finish(id);
    guest.finish(id);
    settle(&mut host, &mut guest);
    assert_eq!([guest.take(id), host.take(id)], [Taken::End, Taken::End]);
    deliver(&mut guest, &mut host);
    cut(&mut host, &mut guest);
    settle(&mut host, &mut guest);
    assert!(host.is_empty() && guest.is_empty());
    assert_eq!(events(&mut guest).iter().filter(|event| matches!(event, Event::Reset(..))).count(), 0);
}

#[test]
fn credit_that_was_lost_with_the_link_comes_back() {
    let (mut host, mut guest, id) = connected();
    for _ in 0..WINDOW as usize / MAX_DATA {
        send(&mut host, id, &[0; MAX_DATA]);
    }
    deliver(&mut host, &mut guest);
    while guest.take(id) != Taken::Nothing {}
    cut(&mut host, &mut guest);
    settle(&mut host, &mut guest);
    assert_eq!(host.may_send(id, MAX_DATA), Some(true));
}

#[test]
fn a_position_that_cannot_be_is_refused() {
    let resume = |positions: &[(u32, u64)]| {
        let (mut host, mut guest, id) = connected();
        send(&mut host, id, b"1234");
        deliver(&mut host, &mut guest);
        let positions: Vec<_> =
            positions.iter().map(|&(stream, received)| StreamPosition { stream, received }).collect();
        host.resume(&positions)
    };
    let at = REQUEST.len() as u64;
    assert_eq!(resume(&[(2, at)]), Ok(()));
    assert_eq!(resume(&[(2, at + 4)]), Ok(()));
    for received in [0, at - 1, at + 1, at + 5, u64::MAX] {
        assert_eq!(resume(&[(2, received)]), Err(ProtocolError::Position { stream: id(2), received }));
    }
    assert_eq!(resume(&[(4, 0)]), Err(ProtocolError::Unopened(id(4))));
    assert_eq!(resume(&[(2, at), (2, at)]), Err(ProtocolError::Listed(id(2))));
}
