//! `control.sock` in a VM's directory.

use fcvm_sys::socket::Address;
use std::io;
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "control.sock";

/// Makes the socket in the VM's directory, which others cannot enter.
pub(super) fn bind(dir: &Path) -> io::Result<UnixListener> {
    UnixListener::bind(Address::of(&dir.join(NAME))?.path())
}

/// Connects to the socket in the VM's directory.
pub(super) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(Address::of(&dir.join(NAME))?.path()).await
}
