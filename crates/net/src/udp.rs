//! Datagrams over a stream: one frame, one datagram; a flow ends when nothing has moved for a while.

use fcvm_link::{Lane, Receiver, Sender};
use fcvm_proto::message::Dialled;
use rustix::io::Errno;
use std::io;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// After how long without a datagram a flow is over; as Linux's connection tracking.
pub(crate) const IDLE: Duration = Duration::from_secs(120);
/// The largest datagram.
pub(crate) const LARGEST: usize = 65_507;

/// A socket whose other end is fixed.
pub(crate) trait Connected {
    /// Sends one datagram.
    async fn send(&self, datagram: &[u8]) -> io::Result<()>;
    /// Receives one; may be cancelled.
    async fn receive(&self, room: &mut [u8]) -> io::Result<usize>;
}

impl Connected for UdpSocket {
    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        UdpSocket::send(self, datagram).await.map(drop)
    }

    async fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        self.recv(room).await
    }
}

/// Carries datagrams between a stream and a socket until one side ends, both are idle, or the network says that nobody is
/// there: that is passed on.
pub(crate) async fn relay(sender: Sender, mut receiver: Receiver, socket: &impl Connected) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST];
    loop {
        let moved = tokio::select! {
            item = receiver.recv() => match item {
                Ok(Some(item)) if item.lane == Lane::Data => socket.send(&item.bytes).await,
                Ok(Some(_)) => Ok(()),
                Ok(None) | Err(_) => return Ok(()),
            },
            received = socket.receive(&mut buffer) => match received {
                Ok(length) => {
                    let datagram = bytes::Bytes::copy_from_slice(&buffer[..length]);
                    if sender.send(Lane::Data, datagram).await.is_err() {
                        return Ok(());
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            },
            () = tokio::time::sleep(IDLE) => return Ok(()),
        };
        if let Some(errno) = moved.err().as_ref().and_then(nobody_there) {
            sender.message(&Dialled::Failed(errno)).await.map_err(io::Error::other)?;
            sender.finish();
            return Ok(());
        }
    }
}

/// What the network said of earlier datagrams; other errors are a lost datagram's.
fn nobody_there(error: &io::Error) -> Option<i32> {
    const FINAL: [Errno; 5] = [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::ACCESS, Errno::PERM];
    error.raw_os_error().filter(|errno| FINAL.iter().any(|known| known.raw_os_error() == *errno))
}

/// Waits for the next item no longer than a flow may be idle.
pub(crate) async fn next(receiver: &mut Receiver) -> Option<fcvm_link::Item> {
    timeout(IDLE, receiver.recv()).await.ok()?.ok()?
}
