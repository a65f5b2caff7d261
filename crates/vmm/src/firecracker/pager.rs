//! The way of a machine's memory to its page server: what Firecracker says of it goes there, with the descriptors by which
//! the server fills it and sees its end.
//!
//! Firecracker itself cannot reach the server, and would wait for ever for the pages of one that is gone or stands still. So
//! its owner stays connected ([`supervision`](super::supervision)).

use super::boot::MONITOR;
use super::supervision::Supervised;
use crate::Error;
use crate::process::host;
use fcvm_pager::{LONGEST_MESSAGE, Link, Region, regions};
use fcvm_sys::descriptor;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::UnixListener;

/// What is needed to hand a machine over.
#[derive(Debug)]
pub(super) struct Handover {
    /// Where Firecracker connects to.
    pub(super) listener: UnixListener,
    /// Where the server listens.
    pub(super) server: PathBuf,
    /// Firecracker's pidfd.
    pub(super) monitor: OwnedFd,
    /// How long the memory is, bytes.
    pub(super) size: u64,
}

impl Handover {
    /// Waits for what Firecracker says, and passes it on.
    pub(super) async fn pass_on(self) -> Result<(Vec<Region>, Supervised), Error> {
        let Self { listener, server, monitor, size } = self;
        let (message, uffd) = heard(&listener).await.map_err(host("memory"))?;
        let invalid = |error| host("memory")(io::Error::new(io::ErrorKind::InvalidData, error));
        let regions = regions(&message, size).map_err(invalid)?;
        let (link, monitor) = hand_over(server, message, uffd, monitor).await?;
        Ok((regions, Supervised::new(link, monitor).map_err(host("memory"))?))
    }
}

/// Hears the one message that there is, with the descriptor beside it.
async fn heard(listener: &UnixListener) -> io::Result<(Vec<u8>, OwnedFd)> {
    let (connection, _) = listener.accept().await?;
    let mut message = vec![0; LONGEST_MESSAGE];
    let receive = || descriptor::receive(&connection, &mut message);
    let (count, descriptors) = connection.async_io(Interest::READABLE, receive).await?;
    message.truncate(count);
    match <[OwnedFd; 1]>::try_from(descriptors) {
        Ok([uffd]) => Ok((message, uffd)),
        Err(other) => Err(io::Error::other(format!("{MONITOR} sent {} descriptors", other.len()))),
    }
}

async fn hand_over(
    server: PathBuf,
    message: Vec<u8>,
    uffd: OwnedFd,
    monitor: OwnedFd,
) -> Result<(Link, OwnedFd), Error> {
    let talk = move || {
        let link = Link::hand_over(Path::new(&server), &message, uffd.as_fd(), monitor.as_fd())?;
        Ok((link, monitor))
    };
    let talked = tokio::task::spawn_blocking(talk).await.expect("talking to a server does not panic");
    talked.map_err(|source| Error::Pager { source })
}
