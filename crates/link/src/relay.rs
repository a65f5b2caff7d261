//! Joins a stream with a connection or a pipe: bytes, ends and errors pass from one to the other.
//!
//! An idle relay holds no buffer: a thread's relays read into one, as they never wait while using it.

use crate::stream::{Receiver, Sender, Stream, StreamError};
use bytes::Bytes;
use fcvm_proto::frame::MAX_DATA;
use fcvm_proto::message::Lane;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// Why a relay ended before both sides had.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The stream was reset or its session ended.
    #[error("relay over a stream")]
    Stream(#[from] StreamError),
    /// Reading from the connection failed.
    #[error("read from a relayed connection")]
    Read(#[source] io::Error),
    /// Writing to the connection failed.
    #[error("write to a relayed connection")]
    Write(#[source] io::Error),
}

impl RelayError {
    /// The error with its cause, in a sentence for the other side.
    fn reason(&self) -> String {
        match self {
            RelayError::Stream(source) => format!("{self}: {source}"),
            RelayError::Read(source) | RelayError::Write(source) => format!("{self}: {source}"),
        }
    }
}

/// Carries bytes both ways on [`Lane::Data`] until both directions have ended. Each end is passed on by itself; an
/// error of the connection resets the stream, and a reset drops the connection.
pub async fn copy_bidirectional<C>(stream: Stream, connection: C) -> Result<(), RelayError>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (sender, receiver) = stream.split();
    join(sender, receiver, connection).await
}

/// Like [`copy_bidirectional`], for a stream that has carried messages before.
pub async fn join<C>(sender: Sender, mut receiver: Receiver, connection: C) -> Result<(), RelayError>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut sender = Some(sender);
    let outward = async {
        if let Some(open) = &sender {
            pump(&mut reader, open, Lane::Data).await?;
        }
        if let Some(open) = sender.take() {
            open.finish();
        }
        Ok(())
    };
    let inward = async {
        drain(&mut receiver, &mut writer).await?;
        writer.shutdown().await.map_err(RelayError::Write)
    };
    let result = tokio::try_join!(outward, inward).map(drop);
    if let Err(error) = &result {
        receiver.reset(&error.reason());
    }
    result
}

/// Sends what `reader` has on a lane until it ends; the direction is left open. Returns the bytes sent.
pub async fn pump<R: AsyncRead + Unpin>(reader: &mut R, sender: &Sender, lane: Lane) -> Result<u64, RelayError> {
    let mut sent = 0;
    loop {
        let bytes = poll_fn(|cx| poll_chunk(reader, sender, cx)).await?;
        if bytes.is_empty() {
            return Ok(sent);
        }
        sent += bytes.len() as u64;
        sender.send(lane, bytes).await?;
    }
}

/// Writes what a stream carries on [`Lane::Data`] until it ends; `writer` is flushed and left open.
pub async fn drain<W: AsyncWrite + Unpin>(receiver: &mut Receiver, writer: &mut W) -> Result<u64, RelayError> {
    let mut received = 0;
    while let Some(item) = receiver.recv().await? {
        if item.lane == Lane::Data {
            writer.write_all(&item.bytes).await.map_err(RelayError::Write)?;
            received += item.bytes.len() as u64;
        }
    }
    writer.flush().await.map_err(RelayError::Write)?;
    Ok(received)
}

/// Reads the next bytes, none at the end; notices meanwhile when the stream is over.
fn poll_chunk<R>(reader: &mut R, sender: &Sender, cx: &mut Context<'_>) -> Poll<Result<Bytes, RelayError>>
where
    R: AsyncRead + Unpin,
{
    let read = with_scratch(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        Pin::new(reader).poll_read(cx, &mut buffer).map_ok(|()| Bytes::copy_from_slice(buffer.filled()))
    });
    match read {
        Poll::Ready(result) => Poll::Ready(result.map_err(RelayError::Read)),
        Poll::Pending => sender.poll_closed(cx).map(|error| Err(error.into())),
    }
}

fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut scratch = SCRATCH.take();
    scratch.resize(MAX_DATA, 0);
    let result = read(&mut scratch);
    SCRATCH.set(scratch);
    result
}
