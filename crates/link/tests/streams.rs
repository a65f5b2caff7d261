//! Streams between two ends in one process: ends, resets, credit, many at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use fcvm_link::{Ended, Incoming, Item, Lane, OpenError, Opened, Receiver, Role, Sender, Session, StreamError, start};
use sha2::{Digest, Sha256};
use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, JoinSet};

struct End {
    session: Session,
    incoming: Incoming,
    driver: JoinHandle<Ended>,
}

fn end(transport: DuplexStream, role: Role) -> End {
    let (reader, writer) = tokio::io::split(transport);
    let (session, incoming, driver) = start(reader, writer, role);
    End { session, incoming, driver: tokio::spawn(driver.run()) }
}

/// Two ends over a pipe that holds so many bytes.
fn ends(pipe: usize) -> (End, End) {
    let (host, guest) = tokio::io::duplex(pipe);
    (end(host, Role::Host), end(guest, Role::Guest))
}

/// Two ends with one stream between them.
async fn connected() -> (End, End, (Sender, Receiver), (Sender, Receiver)) {
    let (host, mut guest) = ends(64 * 1024);
    let ours = host.session.open(&"hello").unwrap().split();
    let theirs = guest.incoming.accept().await.unwrap().stream.split();
    (host, guest, ours, theirs)
}

async fn collect(receiver: &mut Receiver) -> Result<Vec<u8>, StreamError> {
    let mut bytes = Vec::new();
    while let Some(item) = receiver.recv().await? {
        bytes.extend_from_slice(&item.bytes);
    }
    Ok(bytes)
}

fn pattern(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

#[tokio::test]
async fn a_request_is_accepted_as_it_was_made() {
    let (host, mut guest) = ends(100);
    let _stream = host.session.open(&("exec", 7)).unwrap();
    let opened = guest.incoming.accept().await.unwrap();
    assert_eq!(&opened.request[..], br#"["exec",7]"#);
    assert_eq!(opened.request::<(String, u32)>().unwrap(), ("exec".to_owned(), 7));
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (_host, _guest, (to_guest, mut from_guest), (to_host, mut from_host)) = connected().await;
    to_guest.send(Lane::Data, Bytes::from_static(b"question")).await.unwrap();
    to_guest.finish();
    assert_eq!(collect(&mut from_host).await.unwrap(), b"question");
    assert_eq!(from_host.recv().await.unwrap(), None, "the end stays the end");
    to_host.send(Lane::Data, Bytes::from_static(b"answer")).await.unwrap();
    to_host.finish();
    assert_eq!(collect(&mut from_guest).await.unwrap(), b"answer");
}

#[tokio::test]
async fn lanes_and_datagrams_keep_their_bounds() {
    let (_host, _guest, (sender, _r), (_s, mut receiver)) = connected().await;
    let datagram = Bytes::from(vec![1; 65_507]);
    sender.send(Lane::Data, datagram.clone()).await.unwrap();
    sender.send(Lane::Data, Bytes::new()).await.unwrap();
    sender.send(Lane::Error, Bytes::from_static(b"oops")).await.unwrap();
    sender.message(&("signal", 2)).await.unwrap();
    let expected = [
        (Lane::Data, datagram),
        (Lane::Data, Bytes::new()),
        (Lane::Error, Bytes::from_static(b"oops")),
        (Lane::Message, Bytes::from_static(br#"["signal",2]"#)),
    ];
    for (lane, bytes) in expected {
        assert_eq!(receiver.recv().await.unwrap(), Some(Item { lane, bytes }));
    }
}

#[tokio::test]
async fn a_message_longer_than_a_frame_is_refused() {
    let (_host, _guest, (sender, _r), _theirs) = connected().await;
    let error = sender.message(&"x".repeat(70_000)).await.unwrap_err();
    assert!(matches!(error, StreamError::Message(_)), "{error:?}");
}

#[tokio::test]
async fn a_reset_reaches_every_handle_with_its_reason() {
    let (_host, _guest, (sender, mut receiver), (to_host, mut from_host)) = connected().await;
    to_host.reset("the command is gone");
    sender.closed().await;
    let reset = |error: StreamError| matches!(error, StreamError::Reset(reason) if reason == "the command is gone");
    assert!(reset(receiver.recv().await.unwrap_err()));
    assert!(reset(sender.send(Lane::Data, Bytes::from_static(b"x")).await.unwrap_err()));
    assert!(reset(from_host.recv().await.unwrap_err()), "the other direction of the resetting side ends too");
}

#[tokio::test]
async fn a_sender_dropped_without_an_end_resets_the_stream() {
    let (_host, _guest, (sender, _r), (_s, mut from_host)) = connected().await;
    drop(sender);
    assert!(matches!(from_host.recv().await, Err(StreamError::Reset(_))));
}

#[tokio::test]
async fn a_receiver_dropped_early_loses_nothing_of_what_was_sent_and_stops_the_other_side() {
    let (_host, _guest, (sender, receiver), (to_host, mut from_host)) = connected().await;
    sender.send(Lane::Data, pattern(1, 200_000)).await.unwrap();
    sender.finish();
    drop(receiver);
    assert_eq!(collect(&mut from_host).await.unwrap().len(), 200_000);
    to_host.closed().await;
}

#[tokio::test]
async fn a_slow_reader_bounds_what_its_sender_sends() {
    let (_host, _guest, (sender, _r), (_s, mut receiver)) = connected().await;
    let block = Bytes::from(vec![0; 64 * 1024]);
    let mut sent = 0;
    let full = async {
        loop {
            sender.send(Lane::Data, block.clone()).await.unwrap();
            sent += block.len();
        }
    };
    tokio::select! {
        biased;
        () = full => {}
        () = until_idle() => {}
    }
    assert!(sent <= 256 * 1024, "{sent} bytes were sent to a reader that takes none");
    assert!(receiver.recv().await.unwrap().is_some());
    sender.send(Lane::Data, block.clone()).await.unwrap();
}

/// Resolves when the other tasks had many turns, of which they need few.
async fn until_idle() {
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stuck_stream_does_not_hold_up_another() {
    let (host, mut guest) = ends(4096);
    let (stuck, _r) = host.session.open(&0).unwrap().split();
    let (live, _r) = host.session.open(&1).unwrap().split();
    let _stuck = guest.incoming.accept().await.unwrap();
    let (_s, mut receiver) = guest.incoming.accept().await.unwrap().stream.split();
    let stuck = tokio::spawn(async move { stuck.send(Lane::Data, pattern(0, 1 << 20)).await });
    let live = tokio::spawn(async move {
        live.send(Lane::Data, pattern(1, 1 << 20)).await.unwrap();
        live.finish();
    });
    assert_eq!(collect(&mut receiver).await.unwrap(), pattern(1, 1 << 20));
    live.await.unwrap();
    stuck.abort();
}

#[tokio::test]
async fn a_hundred_streams_carry_a_mebibyte_each_both_ways_unchanged() {
    echo_all(100, 1 << 20).await;
}

#[tokio::test]
async fn a_thousand_streams_are_open_at_once() {
    echo_all(1000, 10_000).await;
}

async fn echo_all(streams: u64, length: usize) {
    let (host, mut guest) = ends(64 * 1024);
    tokio::spawn(async move {
        while let Some(opened) = guest.incoming.accept().await {
            tokio::spawn(echo(opened));
        }
    });
    // All are open before the first one carries anything.
    let opened: Vec<_> = (0..streams).map(|seed| (seed, host.session.open(&seed).unwrap())).collect();
    let mut checks = JoinSet::new();
    for (seed, stream) in opened {
        let (sender, mut receiver) = stream.split();
        checks.spawn(async move {
            sender.send(Lane::Data, pattern(seed, length)).await.unwrap();
            sender.finish();
        });
        checks.spawn(async move {
            let mut hash = Sha256::new();
            while let Some(item) = receiver.recv().await.unwrap() {
                hash.update(&item.bytes);
            }
            assert_eq!(hash.finalize(), Sha256::digest(pattern(seed, length)));
        });
    }
    while let Some(check) = checks.join_next().await {
        check.unwrap();
    }
}

async fn echo(opened: Opened) {
    let (sender, mut receiver) = opened.stream.split();
    while let Some(Item { lane, bytes }) = receiver.recv().await.unwrap() {
        sender.send(lane, bytes).await.unwrap();
    }
    sender.finish();
}

#[tokio::test]
async fn several_tasks_may_send_on_one_stream() {
    let (_host, _guest, (sender, _r), (_s, mut receiver)) = connected().await;
    let send = async |lane, byte| {
        for _ in 0..40 {
            sender.send(lane, Bytes::from(vec![byte; 30_000])).await.unwrap();
        }
    };
    let receive = async {
        for _ in 0..80 {
            let item = receiver.recv().await.unwrap().unwrap();
            let byte = if item.lane == Lane::Data { 1 } else { 2 };
            assert!(item.bytes.len() == 30_000 && item.bytes.iter().all(|found| *found == byte));
        }
    };
    tokio::join!(send(Lane::Data, 1), send(Lane::Error, 2), receive);
}

#[tokio::test]
async fn what_was_sent_before_a_close_arrives_and_then_the_session_is_over() {
    let (host, guest, (sender, _r), (_s, mut receiver)) = connected().await;
    sender.send(Lane::Data, pattern(3, 200_000)).await.unwrap();
    sender.finish();
    host.session.close();
    assert!(matches!(host.driver.await.unwrap(), Ended::Closed));
    assert!(matches!(guest.driver.await.unwrap(), Ended::PeerClosed));
    assert_eq!(collect(&mut receiver).await.unwrap(), pattern(3, 200_000));
}

#[tokio::test]
async fn everyone_learns_that_the_session_is_over() {
    let (host, mut guest, (sender, mut receiver), _theirs) = connected().await;
    let session = host.session.clone();
    let waiting = tokio::spawn(async move {
        sender.closed().await;
        session.ended().await
    });
    guest.session.close();
    assert!(matches!(waiting.await.unwrap(), Ended::PeerClosed));
    // The sender was dropped meanwhile: that is not the reason.
    assert!(matches!(receiver.recv().await, Err(StreamError::Ended(Ended::PeerClosed))));
    assert!(matches!(host.session.open(&0), Err(OpenError::Ended(Ended::PeerClosed))));
    assert!(guest.incoming.accept().await.is_none());
}

#[tokio::test]
async fn a_driver_that_is_dropped_ends_its_session() {
    let (host, _guest, (_s, mut receiver), _theirs) = connected().await;
    host.driver.abort();
    assert!(matches!(receiver.recv().await, Err(StreamError::Ended(Ended::Abandoned))));
}

#[tokio::test]
async fn streams_that_nobody_accepts_are_reset() {
    let (host, guest) = ends(4096);
    let (before, _r) = host.session.open(&0).unwrap().split();
    drop(guest.incoming);
    let (after, _r) = host.session.open(&1).unwrap().split();
    before.closed().await;
    after.closed().await;
}
