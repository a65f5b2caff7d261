//! Terminals: made in the `devpts` of the container that gets one, held here by their master's side.

use crate::files;
use fcvm_proto::message::TerminalSize;
use rustix::fs::OFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// Both sides of a new terminal.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Ours; it does not block.
    pub(crate) master: OwnedFd,
    /// What its process has for standard streams.
    pub(crate) slave: OwnedFd,
}

/// Makes a terminal as a process in `root` would.
pub(crate) fn open(root: &Path, size: TerminalSize) -> io::Result<Pair> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = files::open_beneath(root, "dev/pts/ptmx", flags)?;
    // Whatever the container has put in that place: these are understood by a terminal's master only.
    rustix::pty::unlockpt(&master)?;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    resize(&master, size)?;
    Ok(Pair { master, slave })
}

/// Takes the master of a terminal that another program has made and sent before it ended.
pub(crate) fn receive(socket: &UnixListener) -> io::Result<OwnedFd> {
    socket.set_nonblocking(true)?;
    let (connection, _) = socket.accept()?;
    let (mut space, mut name) = ([MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))], [0; 4096]);
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut ancillary, flags)?;
    let mut received = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let master = received.next().and_then(|mut descriptors| descriptors.next());
    let master = master.ok_or_else(|| io::Error::other("no descriptor came"))?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok(master)
}

/// Sets a terminal's size; its foreground processes hear of it.
pub(crate) fn resize(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
