//! Terminals: made in the `devpts` of the container that gets one, held here by their master's side.

use crate::files;
use fcvm_proto::message::TerminalSize;
use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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

/// Sets a terminal's size; its foreground processes hear of it.
pub(crate) fn resize(terminal: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}
