//! One stream: a sender and a receiver, which live and end independently of each other.

use crate::session::Ended;
use crate::state::{Shared, State};
use bytes::Bytes;
use fcvm_proto::frame::{self, EncodeError, MAX_DATA};
use fcvm_proto::message::Lane;
use fcvm_proto::session::{StreamId, Taken};
use serde::{Serialize, de::DeserializeOwned};
use std::future::poll_fn;
use std::task::{Context, Poll};

/// Why a stream's operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// One side reset the stream; the reason is for people.
    #[error("the stream was reset: {0}")]
    Reset(String),
    /// The session is over.
    #[error("the stream's session is over")]
    Ended(#[source] Ended),
    /// A message does not become a frame.
    #[error("send a message that cannot travel")]
    Message(#[source] EncodeError),
}

/// What a frame of a stream carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The lane.
    pub lane: Lane,
    /// The bytes; on a datagram stream one datagram.
    pub bytes: Bytes,
}

impl Item {
    /// Decodes a message.
    pub fn message<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.bytes)
    }
}

/// Both directions of a stream. Dropped, it is reset.
#[derive(Debug)]
pub struct Stream {
    sender: Sender,
    receiver: Receiver,
}

impl Stream {
    pub(crate) fn new(shared: Shared, id: StreamId) -> Self {
        Self {
            sender: Sender { shared: shared.clone(), id, finished: false },
            receiver: Receiver { shared, id, ended: false },
        }
    }

    /// Splits the stream into its directions.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Ends both directions at once; what was not yet taken is lost.
    pub fn reset(self, reason: &str) {
        self.sender.reset(reason);
    }
}

/// The outgoing direction. Dropped without [`Sender::finish`] it resets the stream.
#[derive(Debug)]
pub struct Sender {
    shared: Shared,
    id: StreamId,
    finished: bool,
}

impl Sender {
    /// Sends bytes, waiting for credit. More than 64 KiB go as several frames. Cancelled, it has sent some of them.
    ///
    /// Several tasks may send at once; frames stay whole.
    pub async fn send(&self, lane: Lane, mut bytes: Bytes) -> Result<(), StreamError> {
        loop {
            let frame = bytes.split_to(bytes.len().min(MAX_DATA));
            poll_fn(|cx| self.poll_send(cx, lane, &frame)).await?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends a JSON message of at most 64 KiB, waiting for credit. Cancelled, it has not sent it.
    pub async fn message<T: Serialize>(&self, message: &T) -> Result<(), StreamError> {
        let bytes = frame::encode(message, MAX_DATA).map_err(StreamError::Message)?;
        self.send(Lane::Message, bytes).await
    }

    /// Ends this direction after what was sent.
    pub fn finish(mut self) {
        self.finished = true;
        self.shared.change(|state| state.mux.finish(self.id));
    }

    /// Ends both directions at once; what was sent and not yet taken is lost.
    pub fn reset(self, reason: &str) {
        self.shared.reset(self.id, reason);
    }

    /// Waits until a side resets the stream or the session ends.
    pub async fn closed(&self) {
        poll_fn(|cx| self.poll_closed(cx)).await;
    }

    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        let mut state = self.shared.lock();
        if let Some(error) = state.over(self.id) {
            return Poll::Ready(error);
        }
        state.held(self.id).watchers.register(cx);
        Poll::Pending
    }

    /// Sends one frame of at most 64 KiB when there is credit for it.
    fn poll_send(&self, cx: &mut Context<'_>, lane: Lane, frame: &Bytes) -> Poll<Result<(), StreamError>> {
        self.shared.change(|state| {
            if let Some(error) = state.over(self.id) {
                return Poll::Ready(Err(error));
            }
            match state.mux.may_send(self.id, frame.len()) {
                Some(true) => {
                    state.mux.send(self.id, lane, frame.clone());
                    Poll::Ready(Ok(()))
                }
                Some(false) => {
                    state.held(self.id).writers.register(cx);
                    Poll::Pending
                }
                None => Poll::Ready(Err(gone())),
            }
        })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.finished {
            self.shared.reset(self.id, "the sender is gone");
        }
        drop(self.shared.change(|state| state.release(self.id)));
    }
}

/// The incoming direction. Dropped before the end, it drops what arrives; when all that was sent the other way has
/// been taken too, the stream is reset, so that the other side stops.
#[derive(Debug)]
pub struct Receiver {
    shared: Shared,
    id: StreamId,
    ended: bool,
}

impl Receiver {
    /// Takes the next item, which acknowledges it; none at the end. What had arrived before the session ended is
    /// still given. Cancelled, it has taken nothing.
    pub async fn recv(&mut self) -> Result<Option<Item>, StreamError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Ends both directions at once; what was sent and not yet taken is lost.
    pub fn reset(self, reason: &str) {
        self.shared.reset(self.id, reason);
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Item>, StreamError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let Self { shared, id, ended } = self;
        shared.change(|state| match state.mux.take(*id) {
            Taken::Item(lane, bytes) => Poll::Ready(Ok(Some(Item { lane, bytes }))),
            Taken::End => {
                *ended = true;
                Poll::Ready(Ok(None))
            }
            Taken::Gone => Poll::Ready(Err(state.over(*id).unwrap_or_else(gone))),
            Taken::Nothing => match state.over(*id) {
                Some(error) => Poll::Ready(Err(error)),
                None => {
                    state.held(*id).reader.register(cx);
                    Poll::Pending
                }
            },
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let left = self.shared.change(|state| {
            if !self.ended {
                state.mux.discard(self.id);
            }
            state.release(self.id)
        });
        drop(left);
    }
}

impl State {
    /// Why nothing more can be done with a stream.
    fn over(&mut self, id: StreamId) -> Option<StreamError> {
        if let Some(reason) = &self.held(id).reset {
            return Some(StreamError::Reset(reason.to_string()));
        }
        self.ended.clone().map(StreamError::Ended)
    }
}

/// The error of a direction that was used after both had ended.
fn gone() -> StreamError {
    StreamError::Reset("the stream is over".to_owned())
}
