//! Relays between a stream and a connection.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use fcvm_link::relay::{RelayError, copy_bidirectional};
use fcvm_link::{Lane, Role, Session, Stream, StreamError, start};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// Both ends of one stream, and the sessions that carry it.
async fn stream() -> (Stream, Stream, [Session; 2]) {
    let (host, guest) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(host);
    let (session, _incoming, driver) = start(reader, writer, Role::Host);
    tokio::spawn(driver.run());
    let (reader, writer) = tokio::io::split(guest);
    let (theirs, mut incoming, driver) = start(reader, writer, Role::Guest);
    tokio::spawn(driver.run());
    let ours = session.open(&0).unwrap();
    (ours, incoming.accept().await.unwrap().stream, [session, theirs])
}

/// A connection whose bytes travel over a stream to another connection.
async fn carried(pipe: usize) -> (DuplexStream, DuplexStream) {
    let (ours, theirs, _) = stream().await;
    let (near, near_relay) = tokio::io::duplex(pipe);
    let (far, far_relay) = tokio::io::duplex(pipe);
    tokio::spawn(copy_bidirectional(ours, near_relay));
    tokio::spawn(copy_bidirectional(theirs, far_relay));
    (near, far)
}

#[tokio::test]
async fn a_half_closed_connection_still_gets_its_answer() {
    let (mut near, mut far) = carried(1000).await;
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut question = String::new();
    far.read_to_string(&mut question).await.unwrap();
    far.write_all(question.replace("question", "answer").as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "answer");
}

#[tokio::test]
async fn many_bytes_pass_unchanged_in_both_directions_at_once() {
    let (near, far) = carried(7777).await;
    let block: Vec<u8> = (0..3_000_000u32).map(|number| (number.wrapping_mul(number) >> 7) as u8).collect();
    let check = async |connection: DuplexStream| {
        let (mut reader, mut writer) = tokio::io::split(connection);
        let write = async {
            writer.write_all(&block).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut found = Vec::new();
        let read = reader.read_to_end(&mut found);
        let ((), read) = tokio::join!(write, read);
        read.unwrap();
        assert!(found == block);
    };
    tokio::join!(check(near), check(far));
}

#[tokio::test]
async fn a_reset_drops_an_idle_connection() {
    let (ours, theirs, _sessions) = stream().await;
    let (mut near, near_relay) = tokio::io::duplex(100);
    let relay = tokio::spawn(copy_bidirectional(ours, near_relay));
    theirs.reset("refused");
    let error = relay.await.unwrap().unwrap_err();
    assert!(matches!(error, RelayError::Stream(StreamError::Reset(reason)) if reason == "refused"));
    assert_eq!(near.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_reset_drops_a_connection_whose_other_direction_had_ended() {
    let (ours, theirs, _sessions) = stream().await;
    let (_near, near_relay) = tokio::io::duplex(100);
    let relay = tokio::spawn(copy_bidirectional(ours, near_relay));
    let (sender, receiver) = theirs.split();
    sender.finish();
    receiver.reset("enough");
    assert!(matches!(relay.await.unwrap(), Err(RelayError::Stream(StreamError::Reset(_)))));
}

/// A connection that was reset: every operation fails.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_error_of_the_connection_resets_the_stream_with_the_cause() {
    let (ours, theirs, _sessions) = stream().await;
    let relay = tokio::spawn(copy_bidirectional(ours, Broken));
    let (sender, mut receiver) = theirs.split();
    sender.send(Lane::Data, Bytes::from_static(b"x")).await.unwrap();
    let Err(StreamError::Reset(reason)) = receiver.recv().await else { panic!("not reset") };
    assert_eq!(reason, "write to a relayed connection: connection reset");
    assert!(matches!(relay.await.unwrap(), Err(RelayError::Write(_))));
}
