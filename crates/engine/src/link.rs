//! The owner's end of a guest's link: one session, over all the pauses in which its machine is saved.

use crate::Error;
use fcvm_link::greeting::{self, GreetingError};
use fcvm_link::{Ended, Incoming, Resumable, Role, Session};
use fcvm_proto::message::{Done, Hello, HostRequest, StreamPosition, Verdict};
use fcvm_vmm::Line;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long a guest may take to fall silent. It only has to finish the frame that it is sending.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest may take for what its owner waits for and does nothing else meanwhile: nobody could stop the VM.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A session and the task that moves its bytes. Dropping it ends both.
#[derive(Debug)]
pub(crate) struct GuestLink {
    session: Session,
    parks: mpsc::Sender<oneshot::Sender<Parked>>,
    task: JoinHandle<()>,
}

/// Both sides are silent as long as this lives; then the session goes on.
#[derive(Debug)]
pub(crate) struct Parked {
    _release: oneshot::Sender<()>,
}

/// What carries a link: the halves of its connection, and the way to another one.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) reader: OwnedReadHalf,
    pub(crate) writer: OwnedWriteHalf,
    line: Line,
}

impl Carrier {
    /// Waits for the machine's first connection.
    pub(crate) async fn first(mut line: Line) -> io::Result<Self> {
        let (reader, writer) = line.connect().await?.into_split();
        Ok(Self { reader, writer, line })
    }

    /// Waits for the connection that takes the place of a broken one.
    async fn renew(&mut self) -> io::Result<()> {
        (self.reader, self.writer) = self.line.connect().await?.into_split();
        Ok(())
    }
}

impl GuestLink {
    /// Starts a session with a guest that has greeted.
    pub(crate) fn start(carrier: Carrier, hello: Hello) -> (Self, Incoming) {
        let (session, incoming, resumable) = fcvm_link::resumable(Role::Host);
        let (parks, asked) = mpsc::channel(1);
        let task = tokio::spawn(serve(carrier, resumable, asked, hello));
        (Self { session, parks, task }, incoming)
    }

    /// The session.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Makes both sides fall silent. A guest that does so too late goes on by itself.
    pub(crate) async fn park(&self) -> Result<Parked, Error> {
        let (asker, parked) = oneshot::channel();
        self.parks.send(asker).await.map_err(|_| Error::Lost)?;
        self.session.park();
        within(PATIENCE, "fall silent", async { parked.await.map_err(|_| Error::Lost) }).await
    }
}

/// The two ends of a session of a test, driven over a transport with so much room.
#[cfg(test)]
pub(crate) fn in_memory(room: usize) -> ((Session, Incoming), (Session, Incoming)) {
    let (near, far) = tokio::io::duplex(room);
    let end = |transport, role| {
        let (reader, writer) = tokio::io::split(transport);
        let (session, incoming, driver) = fcvm_link::start(reader, writer, role);
        tokio::spawn(driver.run());
        (session, incoming)
    };
    (end(near, Role::Host), end(far, Role::Guest))
}

impl Drop for GuestLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut carrier: Carrier,
    mut resumable: Resumable,
    mut parks: mpsc::Receiver<oneshot::Sender<Parked>>,
    hello: Hello,
) {
    loop {
        let ended = resumable.run(&mut carrier.reader, &mut carrier.writer).await;
        if !matches!(ended, Ended::Parked) {
            tracing::debug!(%ended, "the link ended");
            return resumable.end(ended);
        }
        if let Some(asker) = parks.recv().await {
            let (release, released) = oneshot::channel();
            if asker.send(Parked { _release: release }).is_ok() {
                let _released_by_drop = released.await;
            }
        }
        if let Err(reason) = go_on(&mut carrier, &mut resumable, &hello).await {
            tracing::warn!(reason, "the link did not go on after a pause");
            return resumable.end(Ended::PeerClosed);
        }
    }
}

/// Wakes the guest and goes on where both sides stopped.
async fn go_on(carrier: &mut Carrier, resumable: &mut Resumable, hello: &Hello) -> Result<(), String> {
    let positions = loop {
        match wake(carrier, resumable.positions(), hello).await {
            Ok(greeted) => break greeted,
            // A save may have broken the connection: then the guest dials anew. It does not matter which of several
            // connections of a guest is the first that answers.
            Err(GreetingError::Transport(broken)) => {
                carrier.renew().await.map_err(|_| broken.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    resumable.resume(&positions?).map_err(|error| error.to_string())
}

/// Knocks, and hears how far the guest has received each stream; the reason if it is refused.
async fn wake(
    carrier: &mut Carrier,
    streams: Vec<StreamPosition>,
    hello: &Hello,
) -> Result<Result<Vec<StreamPosition>, String>, GreetingError> {
    let Carrier { reader, writer, .. } = carrier;
    greeting::knock(writer).await?;
    let greeted = greeting::host_greeting(reader, writer, |again| {
        if again.boot_id == hello.boot_id {
            Verdict::Continue { streams }
        } else {
            Verdict::Refused { reason: "this is not the guest that was running".to_owned() }
        }
    });
    let greeted = greeted.await?;
    Ok(match greeted.verdict {
        Verdict::Refused { reason } => Err(reason),
        _ => Ok(greeted.positions),
    })
}

/// Has the guest do what carries nothing.
pub(crate) async fn ask(session: &Session, request: &HostRequest) -> Result<(), Error> {
    match answer(session, request).await? {
        Done::Ok => Ok(()),
        Done::Failed(reason) => Err(Error::Refused(reason)),
    }
}

/// Waits for what a guest is to do, but no longer than this.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or(Err(Error::NotSilent { what, seconds: limit.as_secs() }))
}

/// Asks the guest for one message.
pub(crate) async fn answer<T: DeserializeOwned>(session: &Session, request: &HostRequest) -> Result<T, Error> {
    let (sender, mut receiver) = session.open(request).map_err(|_| Error::Lost)?.split();
    let item = receiver.recv().await.map_err(crate::control::refused)?.ok_or(Error::Lost)?;
    sender.finish();
    item.message().map_err(|error| Error::Refused(format!("the guest answered nonsense: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_answers_nothing_is_not_waited_for_for_ever() {
        let ((session, _incoming), _guest) = in_memory(4096);
        let asked = within(SOON, "answer", ask(&session, &HostRequest::Quiesce)).await;
        assert!(matches!(asked, Err(Error::NotSilent { what: "answer", seconds: 60 })), "{asked:?}");
    }
}
