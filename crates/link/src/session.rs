//! A session's handles: what opens streams and what accepts them. The bytes are moved by [`crate::driver`].

use crate::state::Shared;
use crate::stream::Stream;
use bytes::Bytes;
use fcvm_proto::frame::{self, EncodeError, MAX_REQUEST};
use fcvm_proto::session::{self, ProtocolError};
use serde::{Serialize, de::DeserializeOwned};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Why a session is over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Ended {
    /// This side closed it.
    #[error("this side closed the session")]
    Closed,
    /// The other side closed the transport.
    #[error("the other side closed the link")]
    PeerClosed,
    /// The transport failed.
    #[error("the link broke")]
    Transport(#[source] Arc<io::Error>),
    /// The other side broke the protocol.
    #[error("the other side broke the protocol")]
    Protocol(#[from] ProtocolError),
    /// Both sides have fallen silent, since the machine is to be saved. Not an end: it goes on after a resume.
    #[error("the session is parked")]
    Parked,
    /// Its driver was dropped.
    #[error("the session was abandoned")]
    Abandoned,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The session is over.
    #[error("open a stream on an ended session")]
    Ended(#[source] Ended),
    /// The request does not become a frame.
    #[error("open a stream with a request that cannot travel")]
    Request(#[source] EncodeError),
    /// The session has no room for another stream.
    #[error("open a stream on a full session")]
    Full(#[source] session::OpenError),
}

/// One end of a session. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) shared: Shared,
}

impl Session {
    /// Opens a stream that starts with this request, of at most 1 MiB as JSON.
    pub fn open<T: Serialize>(&self, request: &T) -> Result<Stream, OpenError> {
        let request = frame::encode(request, MAX_REQUEST).map_err(OpenError::Request)?;
        self.open_bytes(request)
    }

    /// Opens a stream with a request that is JSON already, for example one that is passed on.
    pub fn open_bytes(&self, request: Bytes) -> Result<Stream, OpenError> {
        let id = self.shared.change(|state| {
            if let Some(ended) = &state.ended {
                return Err(OpenError::Ended(ended.clone()));
            }
            let id = state.mux.open(request).map_err(OpenError::Full)?;
            state.hold(id);
            Ok(id)
        })?;
        Ok(Stream::new(self.shared.clone(), id))
    }

    /// Ends the session after what was already sent has been written.
    pub fn close(&self) {
        self.shared.change(|state| state.closing = true);
    }

    /// Asks both sides to fall silent: [`crate::Resumable::run`] returns [`Ended::Parked`] when they have. The host's to do.
    pub fn park(&self) {
        self.shared.change(|state| state.mux.park());
    }

    /// Waits until the session is over, and tells why.
    pub async fn ended(&self) -> Ended {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            match &state.ended {
                Some(ended) => Poll::Ready(ended.clone()),
                None => {
                    state.enders.register(cx);
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// The streams that the other side opens. Once dropped, further ones are reset.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) shared: Shared,
}

impl Incoming {
    /// Waits for the next stream; none when the session is over and all streams of it were accepted.
    pub async fn accept(&mut self) -> Option<Opened> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Opened>> {
        let shared = self.shared.clone();
        self.shared.change(|state| {
            while let Some((id, request)) = state.mux.accept() {
                if state.is_crowded() {
                    state.mux.reset(id, "too many streams are still held");
                    continue;
                }
                state.hold(id);
                return Poll::Ready(Some(Opened { request, stream: Stream::new(shared, id) }));
            }
            if state.ended.is_some() {
                return Poll::Ready(None);
            }
            state.acceptor.register(cx);
            Poll::Pending
        })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let waiters = self.shared.change(|state| {
            state.deaf = true;
            state.notice()
        });
        waiters.wake();
    }
}

/// A stream that the other side opened.
#[derive(Debug)]
pub struct Opened {
    /// The request, JSON.
    pub request: Bytes,
    /// The stream.
    pub stream: Stream,
}

impl Opened {
    /// Decodes the request.
    pub fn request<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.request)
    }
}
