//! Measures one stream through a Unix socket pair: throughput in MB/s, and the time of a small message there and back.
//!
//! `cargo run --release -p fcvm-link --example throughput [MEBIBYTES]`. The numbers of a release are in `docs/bench`.

use bytes::Bytes;
use fcvm_link::{Lane, Role, start};
use std::time::Instant;
use tokio::net::UnixStream;

const ROUND_TRIPS: u32 = 10_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mebibytes: usize = std::env::args().nth(1).map_or(Ok(2048), |argument| argument.parse())?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    theirs.set_nonblocking(true)?;
    let answerer = std::thread::spawn(move || runtime()?.block_on(answer(theirs)));
    runtime()?.block_on(measure(ours, mebibytes))?;
    answerer.join().map_err(|_| "the answerer panicked")?.map_err(|error| error.into())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn measure(socket: std::os::unix::net::UnixStream, mebibytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    let (session, _incoming, driver) = start(reader, writer, Role::Host);
    let driver = tokio::spawn(driver.run());
    let (sender, mut receiver) = session.open(&"measure")?.split();

    let begun = Instant::now();
    for _ in 0..ROUND_TRIPS {
        sender.send(Lane::Message, Bytes::from_static(b"ping")).await?;
        receiver.recv().await?;
    }
    println!("round trip: {:.1} us", begun.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS));

    let block = Bytes::from(vec![7; 1024 * 1024]);
    let begun = Instant::now();
    for _ in 0..mebibytes {
        sender.send(Lane::Data, block.clone()).await?;
    }
    sender.finish();
    while receiver.recv().await?.is_some() {}
    let seconds = begun.elapsed().as_secs_f64();
    println!("throughput: {:.0} MB/s", (mebibytes << 20) as f64 / 1e6 / seconds);
    session.close();
    driver.await?;
    Ok(())
}

async fn answer(socket: std::os::unix::net::UnixStream) -> Result<(), std::io::Error> {
    let (reader, writer) = UnixStream::from_std(socket)?.into_split();
    let (_session, mut incoming, driver) = start(reader, writer, Role::Guest);
    let driver = tokio::spawn(driver.run());
    let opened = incoming.accept().await.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let (sender, mut receiver) = opened.stream.split();
    while let Some(item) = receiver.recv().await.map_err(std::io::Error::other)? {
        if item.lane == Lane::Message {
            sender.send(Lane::Message, item.bytes).await.map_err(std::io::Error::other)?;
        }
    }
    sender.finish();
    driver.await.map_err(std::io::Error::other)?;
    Ok(())
}
