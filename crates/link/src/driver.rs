//! Moves a session's bytes over a transport: writes what the mux has to say in batches, and feeds it what arrives.
//!
//! Nothing waits for more to come before it is written. One task per session; a stream has none.

use crate::session::{Ended, Incoming, Session};
use crate::state::Shared;
use bytes::{Bytes, BytesMut};
use fcvm_proto::frame::HEADER;
use fcvm_proto::message::StreamPosition;
use fcvm_proto::session::{ProtocolError, Role};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Bytes that one read may bring.
const READ: usize = 256 * 1024;
/// Bytes that are taken from the mux ahead of the transport. What is urgent waits behind no more than this.
const AHEAD: usize = 256 * 1024;
/// Slices that one write may have.
const SLICES: usize = 64;
/// Writes and reads after which the other tasks of the runtime have their turn.
const ROUNDS: usize = 8;
/// Reads after a failed write.
const DRAIN: usize = 64;

/// Starts a session on a transport's halves. It lives until the transport ends: spawn [`Driver::run`].
pub fn start<R, W>(reader: R, writer: W, role: Role) -> (Session, Incoming, Driver<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (session, incoming, resumable) = resumable(role);
    (session, incoming, Driver { reader, writer, resumable })
}

/// Starts a session that outlives its transports.
pub fn resumable(role: Role) -> (Session, Incoming, Resumable) {
    let shared = Shared::new(role);
    (Session { shared: shared.clone() }, Incoming { shared: shared.clone() }, Resumable { shared })
}

/// Drives one session over one transport. Dropped, it ends the session.
#[derive(Debug)]
pub struct Driver<R, W> {
    reader: R,
    writer: W,
    resumable: Resumable,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Driver<R, W> {
    /// Moves bytes until the session is over, and tells why it is.
    pub async fn run(mut self) -> Ended {
        let why = self.resumable.run(&mut self.reader, &mut self.writer).await;
        self.resumable.end(why.clone());
        why
    }
}

/// Drives one session over one transport after another. Dropped, it ends the session.
#[derive(Debug)]
pub struct Resumable {
    shared: Shared,
}

impl Resumable {
    /// Moves bytes until the transport ends or both sides are parked. After [`Ended::PeerClosed`], [`Ended::Transport`]
    /// and [`Ended::Parked`] the streams wait for [`Resumable::resume`] and another run; after anything else the session
    /// is over. Not to be run again after it was cancelled, unless resumed.
    pub async fn run<R, W>(&mut self, reader: &mut R, writer: &mut W) -> Ended
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut transport =
            Transport { shared: &self.shared, reader, writer, input: BytesMut::new(), output: Output::default() };
        let why = poll_fn(|cx| transport.poll(cx)).await;
        tracing::debug!(?why, "the transport of a session has ended");
        if matches!(why, Ended::Closed | Ended::Protocol(_)) {
            self.shared.end(why.clone());
        }
        why
    }

    /// What this side has received of each stream, to be told to the other side.
    pub fn positions(&self) -> Vec<StreamPosition> {
        self.shared.lock().mux.positions()
    }

    /// Prepares another run: what the other side has not received will be sent again. An error ends the session.
    pub fn resume(&mut self, positions: &[StreamPosition]) -> Result<(), ProtocolError> {
        let (result, waiters) = {
            let mut state = self.shared.lock();
            (state.mux.resume(positions), state.notice())
        };
        waiters.wake();
        if let Err(error) = &result {
            self.shared.end(Ended::Protocol(error.clone()));
        }
        result
    }

    /// Ends the session for good.
    pub fn end(&mut self, why: Ended) {
        self.shared.end(why);
    }
}

impl Drop for Resumable {
    fn drop(&mut self) {
        self.shared.end(Ended::Abandoned);
    }
}

/// One transport and what is under way on it.
struct Transport<'a, R, W> {
    shared: &'a Shared,
    reader: &'a mut R,
    writer: &'a mut W,
    input: BytesMut,
    output: Output,
}

/// What a half of the transport did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved,
    Waits,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Transport<'_, R, W> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        for _ in 0..ROUNDS {
            let wrote = match self.write(cx) {
                Ok(Some(step)) => step,
                Ok(None) => return Poll::Ready(Ended::Closed),
                Err(error) => return Poll::Ready(self.drain(cx, error)),
            };
            // Nothing is read beyond the other side's last word: what follows belongs to the next greeting.
            if self.output.is_written() && self.shared.lock().mux.is_parked() {
                return Poll::Ready(Ended::Parked);
            }
            let read = match self.read(cx) {
                Ok(step) => step,
                Err(ended) => return Poll::Ready(ended),
            };
            if wrote == Step::Waits && read == Step::Waits {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes one batch; none once all was written and the session is to be closed.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Option<Step>> {
        let closing = self.fill(cx);
        match self.output.poll_write(self.writer, cx) {
            Poll::Ready(Ok(true)) => Ok(Some(Step::Moved)),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(false)) if closing => match Pin::new(&mut *self.writer).poll_shutdown(cx) {
                Poll::Ready(result) => result.map(|()| None),
                Poll::Pending => Ok(Some(Step::Waits)),
            },
            Poll::Ready(Ok(false)) | Poll::Pending => Ok(Some(Step::Waits)),
        }
    }

    /// Takes frames from the mux, and asks to be woken for more; tells whether the session is to be closed.
    fn fill(&mut self, cx: &Context<'_>) -> bool {
        let mut state = self.shared.lock();
        while self.output.has_room() {
            let Some(frame) = state.mux.output() else { break };
            self.output.push(frame.header.encode(), frame.payload);
        }
        state.driver.register(cx);
        state.closing
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Result<Step, Ended> {
        if self.input.capacity() - self.input.len() < READ / 4 {
            self.input.reserve(READ);
        }
        let count = match pin!(self.reader.read_buf(&mut self.input)).poll(cx) {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => return Err(Ended::Transport(Arc::new(error))),
            Poll::Pending => return Ok(Step::Waits),
        };
        if count == 0 {
            return Err(Ended::PeerClosed);
        }
        let (result, waiters) = {
            let mut state = self.shared.lock();
            (state.mux.feed(&mut self.input), state.notice())
        };
        waiters.wake();
        result.map_err(Ended::Protocol)?;
        Ok(Step::Moved)
    }

    /// Hears what the other side said before it stopped listening: a peer that answers and goes does both at once.
    fn drain(&mut self, cx: &mut Context<'_>, error: io::Error) -> Ended {
        for _ in 0..DRAIN {
            match self.read(cx) {
                Ok(Step::Moved) => {}
                Ok(Step::Waits) => break,
                Err(ended) => return ended,
            }
        }
        Ended::Transport(Arc::new(error))
    }
}

/// Frames on their way into the transport.
#[derive(Debug, Default)]
struct Output {
    frames: VecDeque<([u8; HEADER], Bytes)>,
    /// Bytes of all frames.
    length: usize,
    /// Bytes of the first frame that were written.
    written: usize,
    flushed: bool,
}

impl Output {
    /// Whether the transport has it all.
    fn is_written(&self) -> bool {
        self.frames.is_empty() && self.flushed
    }

    fn has_room(&self) -> bool {
        self.length < AHEAD && self.frames.len() < SLICES / 2
    }

    fn push(&mut self, header: [u8; HEADER], payload: Bytes) {
        self.length += HEADER + payload.len();
        self.frames.push_back((header, payload));
        self.flushed = false;
    }

    /// Writes once; false if there was nothing to write.
    fn poll_write<W: AsyncWrite + Unpin>(&mut self, writer: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.frames.is_empty() {
            if !self.flushed {
                ready!(Pin::new(writer).poll_flush(cx))?;
                self.flushed = true;
            }
            return Poll::Ready(Ok(false));
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.slices(&mut slices);
        let written = ready!(Pin::new(writer).poll_write_vectored(cx, &slices[..count]))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(true))
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut skip = self.written;
        let mut count = 0;
        for (header, payload) in &self.frames {
            for part in [&header[..], &payload[..]] {
                let done = skip.min(part.len());
                skip -= done;
                let part = &part[done..];
                if !part.is_empty() && count < SLICES {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        while let Some((header, payload)) = self.frames.front() {
            let left = header.len() + payload.len() - self.written;
            if written < left {
                self.written += written;
                return;
            }
            written -= left;
            self.length -= header.len() + payload.len();
            self.written = 0;
            self.frames.pop_front();
        }
    }
}
