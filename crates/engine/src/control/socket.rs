//! `control.sock` by directory and name: the whole path may be longer than a socket's address.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "control.sock";

/// Makes the socket in the VM's directory, which others cannot enter.
pub(super) fn bind(dir: &Path) -> io::Result<UnixListener> {
    let (_dir, address) = short(dir)?;
    UnixListener::bind(address)
}

/// Connects to the socket in the VM's directory.
pub(super) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let (_dir, address) = short(dir)?;
    UnixStream::connect(address).await
}

fn short(dir: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()));
    Ok((dir, address))
}
