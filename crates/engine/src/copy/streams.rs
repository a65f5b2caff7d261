//! Tar streams to and from a guest, each with the word that the guest ends it with.

use crate::Error;
use crate::control::refused;
use fcvm_link::blocking::{self, Writer};
use fcvm_link::{Receiver, Sender, Stream};
use fcvm_proto::files::Found;
use fcvm_proto::message::Done;
use std::io::{Read, Write};
use tokio::task::{JoinHandle, spawn_blocking};

/// A stream that a guest packs.
pub(super) struct Packed {
    pub(super) found: Found,
    receiver: Receiver,
    _sender: Sender,
}

impl Packed {
    /// Hears what is there before any of it comes.
    pub(super) async fn begin(stream: Stream) -> Result<Self, Error> {
        let (sender, mut receiver) = stream.split();
        let item = receiver.recv().await.map_err(refused)?.ok_or(Error::Lost)?;
        match item.message().map_err(nonsense)? {
            Found::Failed(reason) => Err(Error::Refused(reason)),
            found => Ok(Self { found, receiver, _sender: sender }),
        }
    }

    /// Feeds the stream to a thread and hears how it ended for the guest.
    pub(super) async fn last_word(&mut self, feed: &blocking::Feed) -> Result<(), Error> {
        let Some(word) = feed.take(&mut self.receiver).await.map_err(refused)? else {
            // The thread has taken all that it wanted, or has failed: it says so itself.
            return Ok(());
        };
        match word.message().map_err(nonsense)? {
            Done::Ok => Ok(()),
            Done::Failed(reason) => {
                feed.fail(std::io::Error::other(reason.clone())).await;
                Err(Error::Refused(reason))
            }
        }
    }
}

/// A stream that a guest unpacks.
pub(super) struct Unpacking {
    sender: Sender,
    receiver: Receiver,
}

impl Unpacking {
    pub(super) fn begin(stream: Stream) -> Self {
        let (sender, receiver) = stream.split();
        Self { sender, receiver }
    }

    /// Gives all that is written, and hears what came of it. A guest that takes no more says so before all was sent.
    pub(super) async fn give(mut self, written: blocking::Written) -> Result<(), Error> {
        let early = tokio::select! {
            biased;
            word = self.receiver.recv() => Some(word),
            sent = written.send(&self.sender) => sent.map_err(refused).map(|()| None)?,
        };
        let word = match early {
            Some(word) => word,
            None => {
                self.sender.finish();
                self.receiver.recv().await
            }
        };
        match word.map_err(refused)?.ok_or(Error::Lost)?.message().map_err(nonsense)? {
            Done::Ok => Ok(()),
            Done::Failed(reason) => Err(Error::Refused(reason)),
        }
    }
}

/// Writes a stream out as it comes.
pub(super) async fn write_out<W: Write + Send + 'static>(mut packed: Packed, mut to: W) -> Result<W, Error> {
    let (feed, mut reader) = blocking::reader();
    let writing = spawn_blocking(move || {
        std::io::copy(&mut reader, &mut to).and_then(|_| to.flush()).map_err(fcvm_archive::Error::Write)?;
        Ok(to)
    });
    let heard = packed.last_word(&feed).await;
    drop(feed);
    first(joined(writing).await, heard)
}

/// Lets all that one end has through to the other.
pub(super) fn pass_on(mut from: impl Read, mut to: Writer) -> Result<(), Error> {
    let passed = std::io::copy(&mut from, &mut to).and_then(|_| to.flush());
    Ok(passed.map_err(fcvm_archive::Error::Read)?)
}

/// What a thread that copies came to.
pub(super) async fn joined<T>(work: JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    work.await.expect("copying does not panic")
}

/// What has failed first where one end has failed for want of the other.
pub(super) fn first<T>(host: Result<T, Error>, guest: Result<(), Error>) -> Result<T, Error> {
    match (host, guest) {
        (Err(Error::Files(fcvm_archive::Error::Write(_) | fcvm_archive::Error::Read(_))), Err(guest)) => Err(guest),
        (Err(host), _) => Err(host),
        (Ok(_), Err(guest)) => Err(guest),
        (Ok(done), Ok(())) => Ok(done),
    }
}

fn nonsense(error: serde_json::Error) -> Error {
    Error::Refused(format!("the guest answered nonsense: {error}"))
}
