//! A session that is parked again and again under its streams, as when its machine is saved.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use fcvm_link::greeting::{guest_greeting, hear_report, host_greeting, knock, knocked, report};
use fcvm_link::{Ended, Item, Lane, Resumable, Role, Session, resumable};
use fcvm_proto::message::{Hello, Verdict};
use fcvm_proto::restore::{Delta, Receipt, RestoreReport};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};

type Halves = (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>);

fn hello(generation: u64) -> Hello {
    Hello { protocol: 1, agent: "0.1.0".into(), boot_id: "same".into(), generation }
}

/// Continues a session this many times, each time after it was parked.
async fn host(mut end: Resumable, session: Session, (mut reader, mut writer): Halves, times: u32) -> Ended {
    for _ in 0..times {
        session.park();
        let why = end.run(&mut reader, &mut writer).await;
        assert!(matches!(why, Ended::Parked), "{why}");
        knock(&mut writer).await.unwrap();
        let streams = end.positions();
        let greeted = host_greeting(&mut reader, &mut writer, |_| Verdict::Continue { streams }).await.unwrap();
        end.resume(&greeted.positions).unwrap();
    }
    end.run(&mut reader, &mut writer).await
}

/// A guest that continues until it is told that it was restored; returns what it was told.
async fn guest(mut end: Resumable, (mut reader, mut writer): Halves) -> Option<Box<Delta>> {
    for generation in 1.. {
        if !matches!(end.run(&mut reader, &mut writer).await, Ended::Parked) {
            return None;
        }
        knocked(&mut reader).await.unwrap();
        let positions = end.positions();
        match guest_greeting(&mut reader, &mut writer, &hello(generation), &positions).await.unwrap() {
            Verdict::Continue { streams } => end.resume(&streams).unwrap(),
            Verdict::Restored(delta) => {
                report(&mut writer, &RestoreReport::Restored(Receipt::default())).await.unwrap();
                return Some(delta);
            }
            other => panic!("{other:?}"),
        }
    }
    None
}

#[tokio::test]
async fn no_byte_is_lost_or_doubled_by_parking_and_going_on() {
    for pipe in [64, 5000, 500_000] {
        let (host_end, guest_end) = duplex(pipe);
        let (session, _host_incoming, host_half) = resumable(Role::Host);
        let (_guest_session, mut incoming, guest_half) = resumable(Role::Guest);
        let hosting = tokio::spawn(host(host_half, session.clone(), split(host_end), 50));
        tokio::spawn(guest(guest_half, split(guest_end)));
        tokio::spawn(async move {
            let (sender, mut receiver) = incoming.accept().await.unwrap().stream.split();
            while let Some(Item { lane, bytes }) = receiver.recv().await.unwrap() {
                sender.send(lane, bytes).await.unwrap();
            }
            sender.finish();
        });
        let (sender, mut receiver) = session.open(&"echo").unwrap().split();
        let sending = tokio::spawn(async move {
            for number in 0..3000_u32 {
                sender.send(Lane::Data, Bytes::copy_from_slice(&number.to_le_bytes())).await.unwrap();
            }
            sender.finish();
        });
        for number in 0..3000_u32 {
            assert_eq!(receiver.recv().await.unwrap().unwrap().bytes[..], number.to_le_bytes(), "pipe of {pipe}");
        }
        assert_eq!(receiver.recv().await.unwrap(), None);
        sending.await.unwrap();
        session.close();
        assert!(matches!(hosting.await.unwrap(), Ended::Closed));
    }
}

#[tokio::test]
async fn a_parked_guest_is_told_over_another_transport_that_it_was_restored() {
    let (host_end, guest_end) = duplex(1000);
    let (session, _incoming, mut host_half) = resumable(Role::Host);
    let (_guest_session, _guest_incoming, mut guest_half) = resumable(Role::Guest);
    let ((mut reader, mut writer), (mut guest_reader, mut guest_writer)) = (split(host_end), split(guest_end));
    session.park();
    let (host, guest_side) =
        tokio::join!(host_half.run(&mut reader, &mut writer), guest_half.run(&mut guest_reader, &mut guest_writer));
    assert!(matches!((host, guest_side), (Ended::Parked, Ended::Parked)));
    let (new_host, new_guest) = duplex(1000);
    let (mut reader, mut writer) = split(new_host);
    let (mut guest_reader, mut guest_writer) = split(new_guest);
    let waking = tokio::spawn(async move {
        knocked(&mut guest_reader).await.unwrap();
        let verdict = guest_greeting(&mut guest_reader, &mut guest_writer, &hello(1), &[]).await.unwrap();
        report(&mut guest_writer, &RestoreReport::Restored(Receipt::default())).await.unwrap();
        verdict
    });
    knock(&mut writer).await.unwrap();
    let delta: Delta = serde_json::from_value(serde_json::json!({
        "epoch": "e", "time_ns": 1, "entropy": "", "hostname": "h", "machine_id": "m", "hosts": "", "resolv_conf": "",
    }))
    .unwrap();
    let verdict = Verdict::Restored(Box::new(delta));
    let greeted = host_greeting(&mut reader, &mut writer, |_| verdict.clone()).await.unwrap();
    assert_eq!(greeted.hello.generation, 1);
    let report = hear_report(&mut reader).await.unwrap();
    assert_eq!(report, RestoreReport::Restored(Receipt::default()));
    assert_eq!(waking.await.unwrap(), verdict);
}
