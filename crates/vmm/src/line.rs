//! The way to the guest's agent: what carries a link's bytes.

use std::io;
use tokio::net::{UnixListener, UnixStream};

/// The way to a machine's agent.
#[derive(Debug)]
pub struct Line(Kind);

#[derive(Debug)]
enum Kind {
    /// One connection, which is there as long as the machine.
    Wire(Option<UnixStream>),
    /// What the guest dials. Nobody but its monitor can.
    Dialled(UnixListener),
}

impl Line {
    pub(crate) fn wire(connection: UnixStream) -> Self {
        Self(Kind::Wire(Some(connection)))
    }

    pub(crate) fn dialled(listener: UnixListener) -> Self {
        Self(Kind::Dialled(listener))
    }

    /// Returns the connection, or waits for the next one. There is a next one only where the guest dials: it does so anew
    /// when the one before broke.
    pub async fn connect(&mut self) -> io::Result<UnixStream> {
        match &mut self.0 {
            Kind::Wire(connection) => connection.take().ok_or_else(|| io::ErrorKind::NotConnected.into()),
            Kind::Dialled(listener) => Ok(listener.accept().await?.0),
        }
    }
}
