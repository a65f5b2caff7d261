//! The owner's end of a guest's link: one session, over all the pauses in which its machine is saved.

use crate::Error;
use fcvm_link::{Ended, Incoming, Resumable, Role, Session, greeting};
use fcvm_proto::message::{Done, Hello, HostRequest, Verdict};
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// How long a guest may take to fall silent. It only has to finish the frame that it is sending.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// The transport's halves.
struct Halves {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
}

impl GuestLink {
    /// Starts a session with a guest that has greeted.
    pub(crate) fn start(reader: OwnedReadHalf, writer: OwnedWriteHalf, hello: Hello) -> (Self, Incoming) {
        let (session, incoming, resumable) = fcvm_link::resumable(Role::Host);
        let (parks, asked) = mpsc::channel(1);
        let task = tokio::spawn(serve(Halves { reader, writer }, resumable, asked, hello));
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
        match tokio::time::timeout(PATIENCE, parked).await {
            Ok(parked) => parked.map_err(|_| Error::Lost),
            Err(_) => Err(Error::NotSilent { seconds: PATIENCE.as_secs() }),
        }
    }
}

impl Drop for GuestLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut halves: Halves,
    mut resumable: Resumable,
    mut parks: mpsc::Receiver<oneshot::Sender<Parked>>,
    hello: Hello,
) {
    loop {
        let ended = resumable.run(&mut halves.reader, &mut halves.writer).await;
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
        if let Err(reason) = go_on(&mut halves, &mut resumable, &hello).await {
            tracing::warn!(reason, "the link did not go on after a pause");
            return resumable.end(Ended::PeerClosed);
        }
    }
}

/// Wakes the guest and goes on where both sides stopped.
async fn go_on(halves: &mut Halves, resumable: &mut Resumable, hello: &Hello) -> Result<(), String> {
    let Halves { reader, writer } = halves;
    greeting::knock(writer).await.map_err(|error| error.to_string())?;
    let streams = resumable.positions();
    let greeted = greeting::host_greeting(reader, writer, |again| {
        if again.boot_id == hello.boot_id {
            Verdict::Continue { streams }
        } else {
            Verdict::Refused { reason: "this is not the guest that was running".to_owned() }
        }
    });
    let greeted = greeted.await.map_err(|error| error.to_string())?;
    if let Verdict::Refused { reason } = greeted.verdict {
        return Err(reason);
    }
    resumable.resume(&greeted.positions).map_err(|error| error.to_string())
}

/// Has the guest do what carries nothing.
pub(crate) async fn ask(session: &Session, request: &HostRequest) -> Result<(), Error> {
    match answer(session, request).await? {
        Done::Ok => Ok(()),
        Done::Failed(reason) => Err(Error::Refused(reason)),
    }
}

/// Asks the guest for one message.
pub(crate) async fn answer<T: DeserializeOwned>(session: &Session, request: &HostRequest) -> Result<T, Error> {
    let (sender, mut receiver) = session.open(request).map_err(|_| Error::Lost)?.split();
    let item = receiver.recv().await.map_err(crate::control::refused)?.ok_or(Error::Lost)?;
    sender.finish();
    item.message().map_err(|error| Error::Refused(format!("the guest answered nonsense: {error}")))
}
