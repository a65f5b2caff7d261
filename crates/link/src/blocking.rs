//! The bytes of a stream for a thread that blocks: one that reads and writes files.
//!
//! The thread has a [`Read`] or a [`Write`], the task with the stream the other end of that.

use crate::stream::{Item, Receiver, Sender, StreamError};
use bytes::{Buf, Bytes, BytesMut};
use fcvm_proto::message::Lane;
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// How much is handed over at once: waking the other side takes longer than a few frames.
const PIECE: usize = 256 << 10;
/// How many pieces wait for the other side.
const DEPTH: usize = 2;

/// What a thread writes to. Dropped or not, the other end sees an end.
#[derive(Debug)]
pub struct Writer {
    pieces: mpsc::Sender<Bytes>,
    filling: BytesMut,
}

/// Where what a thread writes comes out.
#[derive(Debug)]
pub struct Written(mpsc::Receiver<Bytes>);

/// What a thread reads from.
#[derive(Debug)]
pub struct Reader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

/// Where what a thread reads goes in.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<io::Result<Bytes>>);

/// Makes both ends for a thread that writes.
pub fn writer() -> (Writer, Written) {
    let (pieces, written) = mpsc::channel(DEPTH);
    (Writer { pieces, filling: BytesMut::new() }, Written(written))
}

/// Makes both ends for a thread that reads.
pub fn reader() -> (Feed, Reader) {
    // Frames come one by one.
    let (feed, pieces) = mpsc::channel(DEPTH * PIECE / fcvm_proto::frame::MAX_DATA);
    (Feed(feed), Reader { pieces, current: Bytes::new() })
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.capacity() == 0 {
            self.filling.reserve(PIECE);
        }
        let length = bytes.len().min(PIECE - self.filling.len());
        self.filling.extend_from_slice(&bytes[..length]);
        if self.filling.len() == PIECE {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.filling.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.filling).freeze();
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Written {
    /// Sends all of it.
    pub async fn send(mut self, sender: &Sender) -> Result<(), StreamError> {
        while let Some(piece) = self.0.recv().await {
            sender.send(Lane::Data, piece).await?;
        }
        Ok(())
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Feed {
    /// Feeds what a stream carries, until its end, or the first message, which it returns. A stream that fails is an error of
    /// the thread's too. A thread that reads no more ends it early.
    pub async fn take(&self, receiver: &mut Receiver) -> Result<Option<Item>, StreamError> {
        loop {
            let item = match receiver.recv().await {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.fail(io::Error::other(error.to_string())).await;
                    return Err(error);
                }
            };
            match item.lane {
                Lane::Message => return Ok(Some(item)),
                Lane::Data => {
                    if self.0.send(Ok(item.bytes)).await.is_err() {
                        return Ok(None);
                    }
                }
                Lane::Error => {}
            }
        }
    }

    /// Lets the thread's next read fail.
    pub async fn fail(&self, error: io::Error) {
        let _it_reads_no_more = self.0.send(Err(error)).await;
    }

    /// Waits until the thread reads no more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
