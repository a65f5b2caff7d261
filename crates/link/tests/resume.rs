//! A link that breaks and comes back: greetings, and streams that go on as if nothing had happened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use fcvm_link::greeting::{GreetingError, guest_greeting, host_greeting};
use fcvm_link::{Ended, Incoming, Item, Lane, Resumable, Role, resumable};
use fcvm_proto::frame::Frame;
use fcvm_proto::message::{Hello, StreamPosition, Verdict};
use fcvm_proto::preamble::Calling;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinSet;

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

fn hello(generation: u64) -> Hello {
    Hello { protocol: 1, agent: "0.1.0".into(), boot_id: "same".into(), generation }
}

fn refused() -> Verdict {
    Verdict::Refused { reason: "just so".into() }
}

#[tokio::test]
async fn a_guest_learns_the_verdict_behind_stale_bytes_of_an_older_life() {
    for pipe in [64, 1000, 100_000] {
        let (host, guest) = tokio::io::duplex(pipe);
        let (mut host_reader, mut host_writer) = tokio::io::split(host);
        let (mut guest_reader, mut guest_writer) = tokio::io::split(guest);
        let torn = &Calling::new([8; 16]).call()[..20];
        let old = [&Calling::new([7; 16]).call()[..], &[0xf5; 30_000], torn].concat();
        // As much as the pipe holds, in both directions.
        let stale = &old[old.len().saturating_sub(pipe)..];
        host_writer.write_all(stale).await.unwrap();
        guest_writer.write_all(stale).await.unwrap();
        let hello = hello(3);
        let host = host_greeting(&mut host_reader, &mut host_writer, |_| refused());
        let guest = guest_greeting(&mut guest_reader, &mut guest_writer, &hello, &[]);
        let (greeted, verdict) = tokio::join!(host, guest);
        let greeted = greeted.unwrap();
        assert_eq!((&greeted.hello, greeted.verdict, verdict.unwrap()), (&hello, refused(), refused()));
    }
}

#[tokio::test]
async fn a_guest_of_another_protocol_is_refused_without_asking() {
    let (host, guest) = tokio::io::duplex(1000);
    let (mut host_reader, mut host_writer) = tokio::io::split(host);
    let (mut guest_reader, mut guest_writer) = tokio::io::split(guest);
    let old = Hello { protocol: 0, ..hello(0) };
    let host = host_greeting(&mut host_reader, &mut host_writer, |_| panic!("asked"));
    let guest = guest_greeting(&mut guest_reader, &mut guest_writer, &old, &[]);
    let (greeted, verdict) = tokio::join!(host, guest);
    assert!(matches!(verdict.unwrap(), Verdict::Refused { .. }));
    assert_eq!(greeted.unwrap().hello, old);
}

/// What a host says to a guest that sends these bytes instead of `Hello`.
async fn greeting_with(bytes: Vec<u8>) -> GreetingError {
    let (host, guest) = tokio::io::duplex(1000);
    let (mut host_reader, mut host_writer) = tokio::io::split(host);
    let (mut guest_reader, mut guest_writer) = tokio::io::split(guest);
    let guest = async move {
        let mut calling = Calling::new([9; 16]);
        guest_writer.write_all(&calling.call()).await.unwrap();
        let mut answer = [0; 40];
        guest_reader.read_exact(&mut answer).await.unwrap();
        let confirmation = calling.feed(&answer).unwrap();
        guest_writer.write_all(&[&confirmation[..], &bytes].concat()).await.unwrap();
    };
    let host = host_greeting(&mut host_reader, &mut host_writer, |_| refused());
    tokio::join!(host, guest).0.unwrap_err()
}

#[tokio::test]
async fn a_guest_that_does_not_greet_is_an_error_of_its_own_kind() {
    let frame = |message: &str| {
        let frame = Frame::session(&message).unwrap();
        [&frame.header.encode()[..], &frame.payload].concat()
    };
    assert!(matches!(greeting_with(vec![0xff; 20]).await, GreetingError::Frame(_)));
    assert!(matches!(greeting_with(Frame::ack(1, 1).header.encode().to_vec()).await, GreetingError::Early(_)));
    assert!(matches!(greeting_with(frame("no hello")).await, GreetingError::Decode(_)));
    assert!(matches!(greeting_with(b"short".to_vec()).await, GreetingError::Transport(_)));
    let whole = Frame::session(&hello(0)).unwrap();
    let twice = [&whole.header.encode()[..], &whole.payload, b"more"].concat();
    assert!(matches!(greeting_with(twice).await, GreetingError::Impatient));
}

/// One end over the links that come after one another.
async fn live(mut end: Resumable, role: Role, mut links: tokio::sync::mpsc::Receiver<Halves>) -> Ended {
    let mut generation = 0;
    while let Some((mut reader, mut writer)) = links.recv().await {
        let positions = end.positions();
        let peer = match role {
            Role::Host => host_continues(&mut reader, &mut writer, positions).await,
            Role::Guest => guest_continues(&mut reader, &mut writer, generation, positions).await,
        };
        generation += 1;
        let Some(peer) = peer else { continue };
        end.resume(&peer).unwrap();
        let why = end.run(&mut reader, &mut writer).await;
        if !matches!(why, Ended::PeerClosed | Ended::Transport(_)) {
            return why;
        }
    }
    Ended::Abandoned
}

async fn host_continues(
    reader: &mut ReadHalf<DuplexStream>,
    writer: &mut WriteHalf<DuplexStream>,
    streams: Vec<StreamPosition>,
) -> Option<Vec<StreamPosition>> {
    let greeted = host_greeting(reader, writer, |_| Verdict::Continue { streams }).await;
    greeted.ok().map(|greeted| greeted.positions)
}

async fn guest_continues(
    reader: &mut ReadHalf<DuplexStream>,
    writer: &mut WriteHalf<DuplexStream>,
    generation: u64,
    streams: Vec<StreamPosition>,
) -> Option<Vec<StreamPosition>> {
    match guest_greeting(reader, writer, &hello(generation), &streams).await {
        Ok(Verdict::Continue { streams }) => Some(streams),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

/// Passes bytes on until a budget is used up, then cuts the link between two bytes.
async fn faulty(from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>, budget: u64) {
    let mut limited = from.take(budget);
    let _cut = tokio::io::copy(&mut limited, &mut to).await;
}

/// Makes links, each of which breaks after a number of bytes that differs from all others.
async fn weather(
    host: tokio::sync::mpsc::Sender<Halves>,
    guest: tokio::sync::mpsc::Sender<Halves>,
    seed: u64,
    breaks: u64,
) {
    for turn in 0..=breaks {
        let random = (seed + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let budget = if turn < breaks { (random >> 40) % 60_000 } else { u64::MAX };
        let (host_end, host_middle) = tokio::io::duplex(5000);
        let (guest_end, guest_middle) = tokio::io::duplex(5000);
        let (from_host, to_host) = tokio::io::split(host_middle);
        let (from_guest, to_guest) = tokio::io::split(guest_middle);
        let links = (host.send(tokio::io::split(host_end)).await, guest.send(tokio::io::split(guest_end)).await);
        if links.0.is_err() || links.1.is_err() {
            return;
        }
        tokio::select! {
            () = faulty(from_host, to_guest, budget) => {}
            () = faulty(from_guest, to_host, budget / 2 + 1) => {}
        }
    }
}

async fn echo_all(mut incoming: Incoming) -> Vec<Bytes> {
    let mut requests = Vec::new();
    while let Some(opened) = incoming.accept().await {
        requests.push(opened.request.clone());
        tokio::spawn(async move {
            let (sender, mut receiver) = opened.stream.split();
            while let Some(Item { lane, bytes }) = receiver.recv().await.unwrap() {
                sender.send(lane, bytes).await.unwrap();
            }
            sender.finish();
        });
    }
    requests
}

async fn streams_survive(seed: u64) {
    let (host_links, host_receives) = tokio::sync::mpsc::channel(1);
    let (guest_links, guest_receives) = tokio::sync::mpsc::channel(1);
    let (session, _host_incoming, host) = resumable(Role::Host);
    let (_guest_session, incoming, guest) = resumable(Role::Guest);
    tokio::spawn(weather(host_links, guest_links, seed, 60));
    let host = tokio::spawn(live(host, Role::Host, host_receives));
    tokio::spawn(live(guest, Role::Guest, guest_receives));
    let echoed = tokio::spawn(echo_all(incoming));

    let mut checks = JoinSet::new();
    for number in 0..20u8 {
        let (sender, mut receiver) = session.open(&number).unwrap().split();
        let block = Bytes::from(vec![number; 20_000]);
        let expected = block.clone();
        checks.spawn(async move {
            for index in 0..20u8 {
                let lane = if index % 2 == 0 { Lane::Data } else { Lane::Error };
                sender.send(lane, block.slice(usize::from(index)..)).await.unwrap();
            }
            sender.finish();
        });
        checks.spawn(async move {
            for index in 0..20u8 {
                let lane = if index % 2 == 0 { Lane::Data } else { Lane::Error };
                let bytes = expected.slice(usize::from(index)..);
                assert_eq!(receiver.recv().await.unwrap(), Some(Item { lane, bytes }), "stream {number}, item {index}");
            }
            assert_eq!(receiver.recv().await.unwrap(), None);
        });
    }
    while let Some(check) = checks.join_next().await {
        check.unwrap();
    }
    session.close();
    assert!(matches!(host.await.unwrap(), Ended::Closed));
    let mut requests: Vec<u8> =
        echoed.await.unwrap().iter().map(|json| serde_json::from_slice(json).unwrap()).collect();
    requests.sort_unstable();
    assert_eq!(requests, (0..20).collect::<Vec<u8>>(), "each request was acted on once");
}

#[tokio::test]
async fn streams_go_on_over_links_that_break_at_any_byte() {
    for seed in 0..8 {
        streams_survive(seed * 1000).await;
    }
}
