use super::*;

fn data(stream: u32, length: u32, offset: u64) -> Header {
    Header { kind: Kind::Data, lane: Lane::Data, flags: Flags::default(), stream, length, offset }
}

fn decoded(header: Header) -> Result<Header, FrameError> {
    Header::decode(&header.encode())
}

#[test]
fn a_header_survives_its_encoding() {
    let header = Header { flags: Flags { end: true, open: false }, ..data(0xfedc_ba98, 65_507, u64::MAX) };
    assert_eq!(decoded(header), Ok(header));
}

#[test]
fn unknown_kinds_lanes_and_flags_are_refused() {
    let mut bytes = data(1, 0, 0).encode();
    for kind in [0, 5, 255] {
        assert_eq!(
            Header::decode(&{
                bytes[0] = kind;
                bytes
            }),
            Err(FrameError::Kind(kind))
        );
    }
    bytes[0] = 1;
    assert_eq!(
        Header::decode(&{
            bytes[1] = 3;
            bytes
        }),
        Err(FrameError::Lane(3))
    );
    bytes[1] = 1;
    assert_eq!(
        Header::decode(&{
            bytes[3] = 4;
            bytes
        }),
        Err(FrameError::Flags(4))
    );
}

#[test]
fn each_kind_has_its_size_limit() {
    let open = Flags { open: true, end: false };
    let cases = [
        (Header { kind: Kind::Ack, lane: Lane::Message, ..data(1, 0, 5) }, 0),
        (data(1, 0, 5), MAX_DATA),
        (Header { flags: open, lane: Lane::Message, ..data(1, 0, 0) }, MAX_REQUEST),
        (Header { kind: Kind::Reset, lane: Lane::Message, ..data(1, 0, 0) }, MAX_REASON),
        (Header { kind: Kind::Session, lane: Lane::Message, ..data(0, 0, 0) }, MAX_REQUEST),
    ];
    for (header, limit) in cases {
        let most = Header { length: limit as u32, ..header };
        assert_eq!(decoded(most), Ok(most));
        let length = limit as u32 + 1;
        let error = FrameError::Oversize { kind: header.kind, length, limit };
        assert_eq!(decoded(Header { length, ..header }), Err(error));
    }
}

#[test]
fn fields_where_none_belong_are_refused() {
    let session = Header { kind: Kind::Session, lane: Lane::Message, ..data(0, 0, 0) };
    let reset = Header { kind: Kind::Reset, lane: Lane::Message, ..data(2, 0, 0) };
    let open = Header { flags: Flags { open: true, end: false }, lane: Lane::Message, ..data(2, 0, 0) };
    assert_eq!(decoded(Header { stream: 1, ..session }), Err(FrameError::Stream { kind: Kind::Session, stream: 1 }));
    assert_eq!(decoded(data(0, 1, 0)), Err(FrameError::Stream { kind: Kind::Data, stream: 0 }));
    assert_eq!(decoded(Header { offset: 1, ..reset }), Err(FrameError::Offset { kind: Kind::Reset, offset: 1 }));
    assert_eq!(decoded(Header { offset: 1, ..open }), Err(FrameError::Offset { kind: Kind::Data, offset: 1 }));
    assert_eq!(decoded(Header { flags: open.flags, ..reset }), Err(FrameError::Flags(2)));
    assert_eq!(decoded(Header { lane: Lane::Error, ..open }), Err(FrameError::Lane(2)));
    assert_eq!(decoded(Header { lane: Lane::Data, ..session }), Err(FrameError::Lane(1)));
}

#[test]
fn a_frame_that_is_not_whole_is_left_in_the_buffer() {
    let header = data(1, 3, 0);
    let bytes = [&header.encode()[..], b"abc"].concat();
    for length in 0..bytes.len() {
        let mut buffer = BytesMut::from(&bytes[..length]);
        assert_eq!(Frame::take(&mut buffer), Ok(None));
        assert_eq!(buffer.len(), length);
    }
    let mut buffer = BytesMut::from(&[&bytes[..], b"rest"].concat()[..]);
    assert_eq!(Frame::take(&mut buffer), Ok(Some(Frame { header, payload: Bytes::from_static(b"abc") })));
    assert_eq!(&buffer[..], b"rest");
}

#[test]
fn a_lying_length_is_refused_before_its_payload_comes() {
    let mut buffer = BytesMut::from(&data(1, u32::MAX, 0).encode()[..]);
    assert!(matches!(Frame::take(&mut buffer), Err(FrameError::Oversize { .. })));
}

#[test]
fn an_end_and_an_empty_datagram_count_as_one_byte() {
    let end = Flags { end: true, open: false };
    assert_eq!(data(1, 0, 0).span(), 1);
    assert_eq!(data(1, 7, 0).span(), 7);
    assert_eq!(Header { flags: end, ..data(1, 0, 0) }.span(), 1);
    assert_eq!(Header { flags: end, ..data(1, 7, 0) }.span(), 8);
}

#[test]
fn a_long_reason_is_shortened_to_its_frame() {
    for character in ["a", "\u{1}", "\u{10ffff}"] {
        let frame = Frame::reset(3, &character.repeat(10_000));
        assert!(frame.payload.len() <= MAX_REASON);
        assert_eq!(frame.reason(), character.repeat(REASON_CHARACTERS));
    }
}

#[test]
fn an_unreadable_reason_is_said_to_be_one() {
    let frame = Frame { payload: Bytes::from_static(b"\xff{"), ..Frame::reset(3, "") };
    assert_eq!(frame.reason(), "the other side gave no readable reason");
}

#[test]
fn a_message_longer_than_its_frame_is_refused() {
    let message = "x".repeat(MAX_REQUEST);
    assert!(matches!(Frame::session(&message), Err(EncodeError::Oversize { limit: MAX_REQUEST, .. })));
}
