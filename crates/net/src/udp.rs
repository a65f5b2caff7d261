//! Datagrams over a stream: one frame, one datagram; a flow ends when nothing has moved for a while.

use fcvm_link::{Lane, Receiver, Sender};
use std::io;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// After how long without a datagram a flow is over; as Linux's connection tracking.
pub(crate) const IDLE: Duration = Duration::from_secs(120);
/// The largest datagram.
pub(crate) const LARGEST: usize = 65_507;

/// Carries datagrams between a stream and a connected socket until one side ends or both are idle.
pub(crate) async fn relay(sender: Sender, mut receiver: Receiver, socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            item = receiver.recv() => match item {
                Ok(Some(item)) if item.lane == Lane::Data => drop(socket.send(&item.bytes).await),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(()),
            },
            received = socket.recv(&mut buffer) => {
                let datagram = bytes::Bytes::copy_from_slice(&buffer[..received?]);
                if sender.send(Lane::Data, datagram).await.is_err() {
                    return Ok(());
                }
            }
            () = tokio::time::sleep(IDLE) => return Ok(()),
        }
    }
}

/// Waits for the next item no longer than a flow may be idle.
pub(crate) async fn next(receiver: &mut Receiver) -> Option<fcvm_link::Item> {
    timeout(IDLE, receiver.recv()).await.ok()?.ok()?
}
