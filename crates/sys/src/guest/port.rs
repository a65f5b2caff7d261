//! What carries the link, a virtio port or a connection, as an asynchronous file.
//!
//! A virtio port hands out at most one buffer of its queue in a read and takes at most 32 KiB in a write, whatever more
//! there is. What is made for pipes takes a short read for the last one and waits for an edge that never comes; here only
//! the kernel's "would block" counts.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// What a port takes in one write, in bytes.
const WRITE: usize = 32 << 10;

/// One half of the port; both halves are the same file.
#[derive(Clone, Debug)]
pub struct Port(Arc<AsyncFd<File>>);

impl Port {
    /// Opens the port. Called within the runtime.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        Self::of(File::options().read(true).write(true).custom_flags(flags).open(path)?)
    }

    /// Takes over what was opened already, a connection for example; it does not block.
    pub fn of(file: File) -> io::Result<Self> {
        // SAFETY: a `File` keeps its descriptor open and the same for as long as it lives, and it lives in the `AsyncFd`.
        let port = unsafe { AsyncFd::register(file) }?;
        Ok(Self(Arc::new(port)))
    }
}

impl Port {
    /// Waits until the connection is broken. A vsock that is reset says so as an error only: who waits to read does not
    /// wake up by that.
    pub async fn broken(&self) {
        let _the_error_itself_tells_no_more = self.0.ready(Interest::ERROR).await;
    }
}

impl AsyncRead for Port {
    /// Takes as many of the queue's buffers as there is room for.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            let mut ready = match self.0.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            };
            match ready.try_io(|file| read_into(file.get_ref(), buffer)) {
                Ok(Ok(length)) => {
                    if length == 0 || buffer.remaining() == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

/// Reads into what is free of a buffer as it is: to clear it first would cost more than to read what comes, which is
/// mostly a few bytes.
fn read_into(file: &File, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing is written to what is unfilled but by the kernel, which leaves no part of it less initialized.
    let unfilled = unsafe { buffer.unfilled_mut() };
    let (filled, _) = rustix::io::read(file, unfilled)?;
    let length = filled.len();
    // SAFETY: the kernel has filled so many bytes of what was unfilled, from its beginning.
    unsafe { buffer.assume_init(length) };
    buffer.advance(length);
    Ok(length)
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|file| file.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes the parts with one call: each write to a port is a buffer, a notification of the monitor, and an interrupt.
    /// The kernel writes parts to a port one by one.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match parts {
            [] => self.poll_write(cx, &[]),
            [only] => self.poll_write(cx, only),
            [first, ..] if first.len() >= WRITE => self.poll_write(cx, first),
            parts => self.poll_write(cx, &gathered(parts)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// As much of the parts as goes into one write.
fn gathered(parts: &[IoSlice<'_>]) -> Vec<u8> {
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let mut gathered = Vec::with_capacity(all.min(WRITE));
    for part in parts {
        let length = part.len().min(all.min(WRITE) - gathered.len());
        gathered.extend_from_slice(&part[..length]);
    }
    gathered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_gathered_in_their_order_up_to_one_write() {
        let (head, body) = ([1; 20], [2; 40_000]);
        assert_eq!(gathered(&[IoSlice::new(&head), IoSlice::new(&body[..3])]), [&head[..], &[2; 3]].concat());
        let much = gathered(&[IoSlice::new(&head), IoSlice::new(&body), IoSlice::new(&head)]);
        assert_eq!((much.len(), much[19], much[20], much[WRITE - 1]), (WRITE, 1, 2, 2));
    }
}
