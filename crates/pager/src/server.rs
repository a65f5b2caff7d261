//! The server: a thread for each machine, and what holds them apart. What one of them says or does ends with it.

use crate::backing::Backing;
use crate::machine::{Machine, ServeError};
use crate::message::{Answer, LONGEST, MessageError, regions};
use crate::table::Table;
use fcvm_sys::descriptor;
use fcvm_sys::userfaultfd::Userfaultfd;
use std::error::Error as _;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The most machines at a time.
pub const MOST_CLONES: usize = 1024;

/// How long one that connects may take to say what it is, and to hear an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Enough for what a thread does: it has no recursion and no large values.
const STACK: usize = 256 << 10;

/// Why a machine is not served, or not any longer.
#[derive(Debug, thiserror::Error)]
enum RefusedError {
    #[error("the page server serves {0} machines already, which is the most")]
    Full(usize),
    #[error("the page server did not hear what it is to serve")]
    Unheard(#[source] io::Error),
    #[error("beside the message are {0} descriptors where there should be a userfaultfd and a pidfd")]
    Descriptors(usize),
    #[error("what came is no userfaultfd")]
    Foreign(#[source] io::Error),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves all who connect, until the listener is shut down and the last of them has ended.
pub fn serve(listener: &UnixListener, backing: &Backing) -> io::Result<()> {
    let served = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        loop {
            let connection = match listener.accept() {
                Ok((connection, _)) => connection,
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                    continue;
                }
                // Shut down.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(()),
                Err(error) => return Err(error),
            };
            let place = match Place::take(&served) {
                Ok(place) => place,
                Err(refused) => {
                    say(&connection, &Answer::Failed(in_full(&refused)));
                    continue;
                }
            };
            let work = move || {
                let _place = place;
                attend(&connection, backing);
            };
            thread::Builder::new().stack_size(STACK).name("clone".to_owned()).spawn_scoped(scope, work)?;
        }
    })
}

/// One of the places that there are.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(served: &Arc<AtomicUsize>) -> Result<Self, RefusedError> {
        let before = served.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(served));
        if before < MOST_CLONES { Ok(place) } else { Err(RefusedError::Full(before)) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one machine to its end, and says what kept it from that.
fn attend(connection: &UnixStream, backing: &Backing) {
    if let Err(refused) = converse(connection, backing) {
        say(connection, &Answer::Failed(in_full(&refused)));
    }
}

fn converse(connection: &UnixStream, backing: &Backing) -> Result<(), RefusedError> {
    let (regions, [uffd, monitor]) = hear(connection, backing)?;
    let uffd = Userfaultfd::received(uffd).map_err(RefusedError::Foreign)?;
    let machine = Machine::new((uffd, monitor), connection, Table::new(regions), backing);
    say(connection, &Answer::Serving);
    Ok(machine.serve()?)
}

fn hear(connection: &UnixStream, backing: &Backing) -> Result<(Vec<crate::Region>, [OwnedFd; 2]), RefusedError> {
    let patient = [connection.set_read_timeout(Some(PATIENCE)), connection.set_write_timeout(Some(PATIENCE))];
    patient.into_iter().collect::<io::Result<()>>().map_err(RefusedError::Unheard)?;
    let mut message = vec![0; LONGEST];
    let (count, descriptors) = descriptor::receive(connection, &mut message).map_err(RefusedError::Unheard)?;
    let descriptors: [OwnedFd; 2] =
        descriptors.try_into().map_err(|found: Vec<OwnedFd>| RefusedError::Descriptors(found.len()))?;
    Ok((regions(&message[..count], backing.contents.size())?, descriptors))
}

/// One that is gone needs no answer.
fn say(mut connection: &UnixStream, answer: &Answer) {
    let _is_gone = connection.write_all(&answer.line());
}

fn in_full(error: &RefusedError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_places_for_so_many_and_one_that_goes_makes_room() {
        let served = Arc::new(AtomicUsize::new(0));
        let mut places: Vec<_> = (0..MOST_CLONES).map(|_| Place::take(&served).unwrap()).collect();
        for _ in 0..2 {
            let refused = Place::take(&served).err().unwrap().to_string();
            assert!(refused.contains("serves 1024 machines already"), "{refused}");
        }
        places.pop();
        let _one = Place::take(&served).unwrap();
        assert!(Place::take(&served).is_err());
    }
}
