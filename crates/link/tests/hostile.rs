//! An end whose peer keeps to no rules.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use fcvm_link::{Ended, Lane, Role, StreamError, start};
use fcvm_proto::frame::{Flags, Header, Kind};
use fcvm_proto::session::ProtocolError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn header(stream: u32, length: u32, open: bool) -> [u8; 20] {
    let flags = Flags { open, end: false };
    let lane = if open { Lane::Message } else { Lane::Data };
    Header { kind: Kind::Data, lane, flags, stream, length, offset: 0 }.encode()
}

#[tokio::test]
async fn a_peer_that_sends_no_frames_ends_the_session_with_a_reason() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(ours);
    let (session, _incoming, driver) = start(reader, writer, Role::Host);
    let driver = tokio::spawn(driver.run());
    let (_s, mut receiver) = session.open(&0).unwrap().split();
    theirs.write_all(&[0xff; 100]).await.unwrap();
    assert!(matches!(driver.await.unwrap(), Ended::Protocol(ProtocolError::Frame(_))));
    assert!(matches!(receiver.recv().await, Err(StreamError::Ended(Ended::Protocol(_)))));
}

#[tokio::test]
async fn a_request_that_is_not_json_is_the_accepters_to_refuse() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(ours);
    let (_session, mut incoming, driver) = start(reader, writer, Role::Host);
    tokio::spawn(driver.run());
    theirs.write_all(&[&header(1, 2, true)[..], b"}{"].concat()).await.unwrap();
    let opened = incoming.accept().await.unwrap();
    assert!(opened.request::<u32>().is_err());
}

#[tokio::test]
async fn a_peer_that_stops_in_the_middle_of_a_frame_has_closed_the_link() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(ours);
    let (_session, _incoming, driver) = start(reader, writer, Role::Host);
    let driver = tokio::spawn(driver.run());
    theirs.write_all(&header(1, 50, true)).await.unwrap();
    drop(theirs);
    assert!(matches!(driver.await.unwrap(), Ended::PeerClosed));
}

#[tokio::test]
async fn a_peer_that_opens_and_resets_without_pause_leaves_nothing_behind() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let (reader, writer) = tokio::io::split(ours);
    let (session, mut incoming, driver) = start(reader, writer, Role::Host);
    tokio::spawn(driver.run());
    for number in 0..20_000u32 {
        let stream = 2 * number + 1;
        let reset =
            Header { kind: Kind::Reset, lane: Lane::Message, ..Header::decode(&header(stream, 0, false)).unwrap() };
        theirs.write_all(&[&header(stream, 0, true)[..], &reset.encode()].concat()).await.unwrap();
    }
    theirs.write_all(&header(50_001, 0, true)).await.unwrap();
    let opened = incoming.accept().await.unwrap();
    opened.stream.reset("seen");
    session.close();
    drop(incoming);
}

#[tokio::test]
async fn what_the_peer_said_before_it_went_is_heard_although_writing_fails() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let (reader, writer) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
    let (session, _incoming, driver) = start(reader, writer, Role::Host);
    let (sender, mut receiver) = session.open(&0).unwrap().split();
    sender.send(Lane::Data, Bytes::from_static(b"never read")).await.unwrap();
    {
        use std::io::Write;
        let frame = [&header(2, 5, false)[..], b"adieu"].concat();
        (&theirs).write_all(&frame).unwrap();
        drop(theirs);
    }
    driver.run().await;
    assert_eq!(&receiver.recv().await.unwrap().unwrap().bytes[..], b"adieu");
    assert!(matches!(receiver.recv().await, Err(StreamError::Ended(_))));
}

#[tokio::test]
async fn an_idle_session_writes_nothing() {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let (reader, writer) = tokio::io::split(ours);
    let (session, _incoming, driver) = start(reader, writer, Role::Host);
    let driver = tokio::spawn(driver.run());
    session.close();
    driver.await.unwrap();
    let mut written = Vec::new();
    theirs.read_to_end(&mut written).await.unwrap();
    assert!(written.is_empty());
}
