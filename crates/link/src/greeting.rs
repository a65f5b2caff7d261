//! What comes before the streams on a fresh serial link: the resync marker, `Hello`, and the verdict.
//!
//! Neither side reads beyond what is its own to read here, so that [`crate::start`] or [`crate::Resumable::run`] can
//! take the same halves afterwards. Deadlines are the caller's.

use bytes::{Bytes, BytesMut};
use fcvm_proto::frame::{EncodeError, Frame, FrameError, HEADER, Header, Kind};
use fcvm_proto::message::{Continued, Hello, StreamPosition, Verdict};
use fcvm_proto::preamble::{Answering, Calling, Heard, Nonce};
use fcvm_proto::restore::RestoreReport;
use fcvm_proto::version;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of one read while the marker is searched.
const READ: usize = 64 * 1024;

/// Why a greeting failed.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// The transport failed or ended.
    #[error("greet over the link")]
    Transport(#[from] io::Error),
    /// The other side's bytes are no frame.
    #[error("hear a greeting")]
    Frame(#[from] FrameError),
    /// The other side sent a frame of streams before there are any.
    #[error("hear a {0:?} frame before the greeting is over")]
    Early(Kind),
    /// The other side sent something after `Hello` without awaiting the verdict.
    #[error("hear the guest go on before the verdict")]
    Impatient,
    /// The other side's message is not the expected one.
    #[error("decode a greeting")]
    Decode(#[source] serde_json::Error),
    /// This side's message does not become a frame.
    #[error("send a greeting that cannot travel")]
    Encode(#[from] EncodeError),
}

/// What the host knows after a greeting.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeted {
    /// What the guest said.
    pub hello: Hello,
    /// What the host answered.
    pub verdict: Verdict,
    /// After [`Verdict::Continue`]: how far the guest has received each stream.
    pub positions: Vec<StreamPosition>,
}

/// Greets as the host: finds the guest's marker, hears `Hello`, and answers with what `decide` says. A guest of another
/// protocol is refused without asking.
pub async fn host_greeting<R, W>(
    reader: &mut R,
    writer: &mut W,
    decide: impl FnOnce(&Hello) -> Verdict,
) -> Result<Greeted, GreetingError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut input = host_resync(reader, writer).await?;
    let hello: Hello = decode(&hear(reader, &mut input).await?)?;
    if !input.is_empty() {
        return Err(GreetingError::Impatient);
    }
    let verdict = version::refusal(&hello, &version::SPOKEN).unwrap_or_else(|| decide(&hello));
    say(writer, &verdict).await?;
    let mut positions = Vec::new();
    if let Verdict::Continue { .. } = verdict {
        let continued: Continued = decode(&hear(reader, &mut input).await?)?;
        positions = continued.streams;
    }
    Ok(Greeted { hello, verdict, positions })
}

/// Greets as the guest; `positions` answers a [`Verdict::Continue`].
pub async fn guest_greeting<R, W>(
    reader: &mut R,
    writer: &mut W,
    hello: &Hello,
    positions: &[StreamPosition],
) -> Result<Verdict, GreetingError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    guest_resync(reader, writer).await?;
    say(writer, hello).await?;
    let verdict = decode(&hear(reader, &mut BytesMut::new()).await?)?;
    if let Verdict::Continue { .. } = verdict {
        say(writer, &Continued { streams: positions.to_vec() }).await?;
    }
    Ok(verdict)
}

/// Wakes a parked guest: it waits for any byte, drops it, and greets.
pub async fn knock<W: AsyncWrite + Unpin>(writer: &mut W) -> io::Result<()> {
    writer.write_all(&[0]).await?;
    writer.flush().await
}

/// Waits, as a parked guest, for the host to knock.
pub async fn knocked<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<()> {
    read_some(reader, &mut BytesMut::new()).await
}

/// Tells the host, as a restored guest, what became of its delta.
pub async fn report<W>(writer: &mut W, report: &RestoreReport) -> Result<(), GreetingError>
where
    W: AsyncWrite + Unpin,
{
    say(writer, report).await
}

/// Hears a restored guest's report.
pub async fn hear_report<R>(reader: &mut R) -> Result<RestoreReport, GreetingError>
where
    R: AsyncRead + Unpin,
{
    decode(&hear(reader, &mut BytesMut::new()).await?)
}

/// Brings the link in step; returns what the guest has sent after its marker. It reads on while it writes: with stale
/// bytes in both directions each side could otherwise wait for the other to read.
async fn host_resync<R, W>(reader: &mut R, writer: &mut W) -> io::Result<BytesMut>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut answering = Answering::new(nonce()?);
    let mut input = BytesMut::with_capacity(READ);
    let mut answer = Bytes::new();
    loop {
        tokio::select! {
            read = read_some(reader, &mut input) => read?,
            written = writer.write_buf(&mut answer), if !answer.is_empty() => {
                written?;
                writer.flush().await?;
                continue;
            }
        }
        match answering.feed(&input) {
            Heard::Nothing => {}
            // An older answer that was not wholly written goes torn: the guest does not wait for it.
            Heard::Call(newer) => answer = Bytes::copy_from_slice(&newer),
            Heard::Confirmation(start) => return Ok(input.split_off(start)),
        }
        input.clear();
    }
}

async fn guest_resync<R, W>(reader: &mut R, writer: &mut W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut calling = Calling::new(nonce()?);
    writer.write_all(&calling.call()).await?;
    writer.flush().await?;
    let mut input = BytesMut::with_capacity(READ);
    loop {
        input.clear();
        read_some(reader, &mut input).await?;
        if let Some(confirmation) = calling.feed(&input) {
            // Not flushed: `Hello` follows at once.
            return writer.write_all(&confirmation).await;
        }
    }
}

async fn read_some<R: AsyncRead + Unpin>(reader: &mut R, input: &mut BytesMut) -> io::Result<()> {
    input.reserve(READ);
    match reader.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn say<W: AsyncWrite + Unpin, T: Serialize>(writer: &mut W, message: &T) -> Result<(), GreetingError> {
    let Frame { header, payload } = Frame::session(message)?;
    writer.write_all(&header.encode()).await?;
    writer.write_all(&payload).await?;
    Ok(writer.flush().await?)
}

/// Hears one session frame and not a byte more than it; `input` holds what was read already.
async fn hear<R: AsyncRead + Unpin>(reader: &mut R, input: &mut BytesMut) -> Result<Bytes, GreetingError> {
    read_up_to(reader, input, HEADER).await?;
    let header = Header::decode(input.first_chunk().expect("a header was read"))?;
    if header.kind != Kind::Session {
        return Err(GreetingError::Early(header.kind));
    }
    let whole = HEADER + header.length as usize;
    read_up_to(reader, input, whole).await?;
    Ok(input.split_to(whole).freeze().slice(HEADER..))
}

async fn read_up_to<R: AsyncRead + Unpin>(reader: &mut R, input: &mut BytesMut, length: usize) -> io::Result<()> {
    let known = input.len();
    if known < length {
        input.resize(length, 0);
        reader.read_exact(&mut input[known..]).await?;
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, GreetingError> {
    serde_json::from_slice(message).map_err(GreetingError::Decode)
}

fn nonce() -> io::Result<Nonce> {
    let mut nonce = Nonce::default();
    let mut filled = 0;
    while filled < nonce.len() {
        filled += getrandom(&mut nonce[filled..], GetRandomFlags::empty())?;
    }
    Ok(nonce)
}
