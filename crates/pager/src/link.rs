//! An owner's end: a machine is handed to a server, and stays served as long as the connection is there.

use crate::message::Answer;
use fcvm_sys::descriptor;
use fcvm_sys::socket::Address;
use std::io::{self, BufRead, BufReader};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to answer: it has nothing to do but to look at the message.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer, in bytes.
const LONGEST: usize = 4096;

/// Asks whether the machine is still attended to, and says that it is. It is in no answer.
pub const PULSE: u8 = b'\n';

/// A machine that is served.
#[derive(Debug)]
pub struct Link(UnixStream);

/// Why a machine is not served.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no server.
    #[error("the page server cannot be reached")]
    Connect(#[source] io::Error),
    /// It did not answer.
    #[error("the page server did not answer")]
    Silent(#[source] io::Error),
    /// It said no.
    #[error("the page server refused: {0}")]
    Refused(String),
}

impl Link {
    /// Hands a machine to a server: what its monitor said, its userfaultfd, and the monitor's pidfd. Blocks for the
    /// time of an answer.
    pub fn hand_over(
        server: &Path,
        message: &[u8],
        uffd: BorrowedFd<'_>,
        monitor: BorrowedFd<'_>,
    ) -> Result<Self, LinkError> {
        let address = Address::of(server).map_err(LinkError::Connect)?;
        let stream = UnixStream::connect(address.path()).map_err(LinkError::Connect)?;
        let ask = || {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            if descriptor::send(&stream, message, &[uffd, monitor])? < message.len() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let mut line = Vec::new();
            BufReader::new(io::Read::take(&stream, LONGEST as u64)).read_until(b'\n', &mut line)?;
            stream.set_read_timeout(None)?;
            Ok(line)
        };
        match Answer::read(&ask().map_err(LinkError::Silent)?) {
            Some(Answer::Serving) => Ok(Self(stream)),
            Some(Answer::Failed(reason)) => Err(LinkError::Refused(reason)),
            None => Err(LinkError::Silent(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Returns the connection. Each [`PULSE`] that is sent comes back as soon as the server looks at the machine. Whatever
    /// else comes, also the connection's end, is the end of the service.
    pub fn into_stream(self) -> UnixStream {
        self.0
    }

    /// Says why a service ended, of what came over the connection.
    pub fn reason(last_words: &[u8]) -> String {
        match Answer::read(last_words) {
            Some(Answer::Failed(reason)) => format!("its page server gave up: {reason}"),
            _ => "its page server ended".to_owned(),
        }
    }
}
