//! The owner's end of `control.sock`: answers clients from the first moment to the last.

use super::{CaptureAnswer, Command, Waited, socket, splice};
use crate::console::Console;
use crate::snapshot::CaptureRequest;
use fcvm_link::{Opened, Role, Sender, Session, Stream};
use fcvm_proto::message::{Done, HostRequest};
use fcvm_spec::{Limits, SnapshotId, VmName};
use fcvm_store::HealthRecord;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What a client asks of the driver itself.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To end the VM, with this time-out in seconds or its own.
    Stop(Option<u32>),
    /// To end the container so and to start it in another machine, and say how that went.
    Restart(Option<u32>, oneshot::Sender<Done>),
    /// To let the machine stand still, and say how that went.
    Pause(oneshot::Sender<Done>),
    /// To let it go on, and say how that went.
    Unpause(oneshot::Sender<Done>),
    /// To give the VM another name, and say how that went.
    Rename(VmName, oneshot::Sender<Done>),
    /// To change what the container may use, and say how that went.
    Update(Limits, oneshot::Sender<Done>),
    /// To capture the machine and say how that went.
    Capture(CaptureRequest, oneshot::Sender<CaptureAnswer>),
    /// To put a machine of a snapshot in the place of the one that runs, and say how that went.
    Rewind(SnapshotId, oneshot::Sender<Done>),
    /// To write down what the machine has used of its snapshot, and say how that went.
    Tune(oneshot::Sender<Done>),
    /// To change what the guest may know of itself, and say how that went.
    SetMetadata(BTreeMap<String, String>, oneshot::Sender<Done>),
    /// To ask whether the container is well. None: nothing says how that is told.
    Check(oneshot::Sender<Result<Option<HealthRecord>, String>>),
}

impl Ask {
    /// Says why it is not done. That the asker is gone meanwhile is nothing to fail for.
    pub(crate) fn refuse(self, reason: &str) {
        let failed = Done::Failed(reason.to_owned());
        match self {
            Self::Stop(_) => {}
            Self::Restart(_, answer)
            | Self::Pause(answer)
            | Self::Unpause(answer)
            | Self::Rename(_, answer)
            | Self::Update(_, answer)
            | Self::SetMetadata(_, answer)
            | Self::Rewind(_, answer)
            | Self::Tune(answer) => drop(answer.send(failed)),
            Self::Capture(_, answer) => drop(answer.send(CaptureAnswer::Failed(reason.to_owned()))),
            Self::Check(answer) => drop(answer.send(Err(reason.to_owned()))),
        }
    }
}

/// What the clients of a VM are told: how far it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    guest: Guest,
    code: Option<u8>,
}

/// Whether commands reach the guest.
#[derive(Clone, Debug, Default)]
enum Guest {
    /// There is no container.
    #[default]
    Closed,
    /// It stands still.
    Paused,
    /// They do.
    Open(Session),
}

/// The running server. Dropping it ends it and every connection.
#[derive(Debug)]
pub(crate) struct Control {
    progress: watch::Sender<Progress>,
    asks: mpsc::Receiver<Ask>,
    console: Console,
    server: JoinHandle<()>,
}

/// What the clients of a VM reach.
#[derive(Clone, Debug)]
struct Reach {
    asks: mpsc::Sender<Ask>,
    progress: watch::Receiver<Progress>,
    console: Console,
}

impl Control {
    /// Listens in the VM's directory.
    pub(crate) fn start(dir: &Path) -> io::Result<Self> {
        let listener = socket::bind(dir)?;
        let (progress, watched) = watch::channel(Progress::default());
        let (sender, asks) = mpsc::channel(4);
        let console = Console::default();
        let reach = Reach { asks: sender, progress: watched, console: console.clone() };
        Ok(Self { progress, asks, console, server: tokio::spawn(serve(listener, reach)) })
    }

    /// Those who are at the container.
    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// From now on commands reach the guest.
    pub(crate) fn open(&self, guest: Session) {
        self.progress.send_modify(|progress| progress.guest = Guest::Open(guest));
    }

    /// From now on commands are refused, since the machine stands still.
    pub(crate) fn pause(&self) {
        self.progress.send_modify(|progress| progress.guest = Guest::Paused);
    }

    /// From now on no command reaches the guest.
    pub(crate) fn close(&self) {
        self.progress.send_modify(|progress| progress.guest = Guest::Closed);
    }

    /// From now on the VM has ended: waiters are told.
    pub(crate) fn ended(&self, code: u8) {
        self.progress.send_modify(|progress| *progress = Progress { guest: Guest::Closed, code: Some(code) });
    }

    /// Waits for the next request to the driver.
    pub(crate) async fn ask(&mut self) -> Ask {
        match self.asks.recv().await {
            Some(ask) => ask,
            // The server task is gone only when this value is.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: UnixListener, reach: Reach) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    clients.spawn(serve_client(connection, reach.clone()));
                }
                // Out of descriptors: the client waits in the queue until another one ends.
                Err(error) => {
                    tracing::warn!(%error, "a client of control.sock was not accepted");
                    let _ = clients.join_next().await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

async fn serve_client(connection: UnixStream, reach: Reach) {
    let (reader, writer) = connection.into_split();
    let (_session, mut incoming, driver) = fcvm_link::start(reader, writer, Role::Guest);
    let streams = async {
        let mut streams = JoinSet::new();
        while let Some(opened) = incoming.accept().await {
            streams.spawn(answer(opened, reach.clone()));
        }
        while streams.join_next().await.is_some() {}
    };
    tokio::join!(driver.run(), streams);
}

async fn answer(opened: Opened, reach: Reach) {
    let Reach { asks, mut progress, console } = reach;
    let command = opened.request::<Command>();
    let guest = progress.borrow_and_update().guest.clone();
    match command {
        Ok(Command::Exec(exec)) => forward(opened.stream, guest, &HostRequest::Exec(exec)).await,
        Ok(Command::Usage) => forward(opened.stream, guest, &HostRequest::Usage).await,
        Ok(Command::Processes) => forward(opened.stream, guest, &HostRequest::Processes).await,
        Ok(Command::Changes) => forward(opened.stream, guest, &HostRequest::Changes).await,
        Ok(Command::ViewChanges { number }) => {
            forward(opened.stream, guest, &HostRequest::ViewChanges { number }).await;
        }
        Ok(Command::Pack(request)) => forward(opened.stream, guest, &HostRequest::Pack(request)).await,
        Ok(Command::Unpack(request)) => forward(opened.stream, guest, &HostRequest::Unpack(request)).await,
        Ok(Command::Attach(streams)) => console.serve(opened.stream, streams).await,
        Ok(Command::Kill { signal, all }) => forward(opened.stream, guest, &HostRequest::Kill { signal, all }).await,
        Ok(Command::Stop { timeout_s }) => {
            let asked = asks.send(Ask::Stop(timeout_s)).await;
            answer_with(opened.stream, &asked.map_or_else(|_| ending(), |()| Done::Ok)).await;
        }
        Ok(Command::Restart { timeout_s }) => act(opened.stream, &asks, |done| Ask::Restart(timeout_s, done)).await,
        Ok(Command::Pause) => act(opened.stream, &asks, Ask::Pause).await,
        Ok(Command::Unpause) => act(opened.stream, &asks, Ask::Unpause).await,
        Ok(Command::Rename(name)) => act(opened.stream, &asks, |done| Ask::Rename(name, done)).await,
        Ok(Command::Update(limits)) => act(opened.stream, &asks, |done| Ask::Update(limits, done)).await,
        Ok(Command::Rewind(id)) => act(opened.stream, &asks, |done| Ask::Rewind(id, done)).await,
        Ok(Command::Tune) => act(opened.stream, &asks, Ask::Tune).await,
        Ok(Command::Capture(request)) => {
            let answer = through(&asks, |answer| Ask::Capture(request, answer)).await;
            let answer = answer.unwrap_or_else(|| CaptureAnswer::Failed(ENDING.to_owned()));
            answer_with(opened.stream, &answer).await;
        }
        Ok(Command::SetMetadata(values)) => act(opened.stream, &asks, |done| Ask::SetMetadata(values, done)).await,
        Ok(Command::Check) => match through(&asks, Ask::Check).await {
            Some(Ok(check)) => answer_with(opened.stream, &check).await,
            Some(Err(reason)) => opened.stream.split().0.reset(&reason),
            None => opened.stream.split().0.reset(ENDING),
        },
        Ok(Command::Wait) => {
            let (sender, _receiver) = opened.stream.split();
            let Ok(code) = progress.wait_for(|progress| progress.code.is_some()).await.map(|progress| progress.code)
            else {
                return;
            };
            if let Some(code) = code {
                reply(sender, &Waited { code }).await;
            }
        }
        Err(error) => opened.stream.split().0.reset(&format!("this VM's owner does not know the request: {error}")),
    }
}

/// Why nothing is asked of a machine that stands still.
pub(crate) const PAUSED: &str = "the VM is paused; `fcvm unpause` lets it go on";
const ENDING: &str = "the VM is ending";

fn ending() -> Done {
    Done::Failed(ENDING.to_owned())
}

/// Asks the driver and waits for its answer; none if the VM ends before.
async fn through<T>(asks: &mpsc::Sender<Ask>, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    asks.send(ask(answer)).await.ok()?;
    answered.await.ok()
}

/// Has the driver do something, and answers with how that went.
async fn act(stream: Stream, asks: &mpsc::Sender<Ask>, ask: impl FnOnce(oneshot::Sender<Done>) -> Ask) {
    let done = through(asks, ask).await;
    answer_with(stream, &done.unwrap_or_else(ending)).await;
}

async fn answer_with<T: serde::Serialize>(stream: Stream, message: &T) {
    let (sender, _receiver) = stream.split();
    reply(sender, message).await;
}

async fn forward(client: Stream, guest: Guest, request: &HostRequest) {
    let opened = match guest {
        Guest::Open(guest) => guest.open(request).map_err(|error| error.to_string()),
        Guest::Paused => Err(PAUSED.to_owned()),
        Guest::Closed => Err("the container is not running".to_owned()),
    };
    match opened {
        Ok(guest) => splice::splice(client, guest).await,
        Err(reason) => client.split().0.reset(&reason),
    }
}

async fn reply<T: serde::Serialize>(sender: Sender, message: &T) {
    if sender.message(message).await.is_ok() {
        sender.finish();
    }
}
