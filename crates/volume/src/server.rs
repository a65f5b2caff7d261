//! The owner's side of a file server.

use crate::control::{Answer, Cache, Events, Order, Owners, Served, State, bounded, encode};
use fcvm_sys::jail::{self, Access, Bind, DeviceNodes, Entrance, Jail, Limit};
use fcvm_sys::process::{Ending, Watched};
use std::io;
use std::os::unix::net::UnixStream as Pair;
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// The most descriptors that a server is allowed, where the host allows so many.
const DESCRIPTORS: u64 = 1 << 20;

/// The most volumes that one server has: as many channels go to its process at once, beside the control socket.
pub const VOLUMES_MAX: usize = 63;

/// A host directory or file that a guest is to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Its path on the host.
    pub path: PathBuf,
    /// Whether the guest may write to it.
    pub access: Access,
    /// What the guest may remember of it.
    pub cache: Cache,
    /// Whether the guest is told what changes in it.
    pub events: Events,
    /// Whether device nodes can be made in it.
    pub devices: DeviceNodes,
}

/// How serving files fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket could not be made or used.
    #[error("talk to the file server of the volumes")]
    Socket(#[source] io::Error),
    /// The process could not be started in its jail.
    #[error("start the file server of the volumes")]
    Start(#[source] jail::Error),
    /// The server refused; its sentence.
    #[error("the file server of the volumes: {0}")]
    Refused(String),
    /// It ended without an answer.
    #[error("the file server of the volumes ended")]
    Ended,
}

/// A file server that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    process: Watched,
    control: Mutex<UnixStream>,
}

impl Server {
    /// Starts a server for these volumes, each in its state if there is one, and returns the channels of their messages.
    ///
    /// Called on a thread that lives as long as the server may. It is in these cgroups of the host.
    pub async fn start(
        volumes: &[(Shared, Option<State>)],
        cgroups: Vec<PathBuf>,
        entrance: &Entrance,
    ) -> Result<(Self, Vec<UnixStream>), Error> {
        let devices = volumes.iter().any(|(shared, _)| shared.devices == DeviceNodes::Made);
        let mut jail = Jail::of_file_server(if devices { DeviceNodes::Made } else { DeviceNodes::Refused });
        jail.limits.push((Limit::Descriptors, DESCRIPTORS));
        jail.cgroups = cgroups;
        jail.stderr = std::process::Stdio::inherit();
        // The server looks up there which file systems it serves.
        jail.binds.push(Bind::read_only("/proc/self/mountinfo"));
        let owners = if fcvm_sys::process::runs_as_root() { Owners::Asking } else { Owners::One };
        let mut served = Vec::new();
        let (control, theirs) = Pair::pair().map_err(Error::Socket)?;
        jail.descriptors.push(theirs.into());
        let mut channels = Vec::new();
        for (number, (shared, state)) in volumes.iter().enumerate() {
            let root = format!("/volumes/{number}");
            jail.binds.push(Bind::new(&shared.path, &root, shared.access));
            let (cache, events) = (shared.cache, shared.events);
            served.push(Served { root, cache, owners, events, state: state.clone() });
            let (channel, theirs) = Pair::pair().map_err(Error::Socket)?;
            jail.descriptors.push(theirs.into());
            channels.push(asynchronous(channel)?);
        }
        let spawned = jail::spawn(jail, entrance).map_err(Error::Start)?;
        let process = Watched::new(spawned.child).map_err(Error::Socket)?;
        let server = Self { process, control: Mutex::new(asynchronous(control)?) };
        match server.ask(&Order::Serve(served)).await? {
            Answer::Serving => Ok((server, channels)),
            answer => Err(refused(answer)),
        }
    }

    /// Tells the state of every volume, in their order. None of them has a request in flight.
    pub async fn save(&self) -> Result<Vec<State>, Error> {
        match self.ask(&Order::Save).await? {
            Answer::Saved(states) => Ok(states),
            answer => Err(refused(answer)),
        }
    }

    /// Its process, for people.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for its end. May be cancelled and called again.
    pub async fn ended(&mut self) -> io::Result<Ending> {
        self.process.ended().await
    }

    async fn ask(&self, order: &Order) -> Result<Answer, Error> {
        let mut control = self.control.lock().await;
        control.write_all(&encode(order).map_err(Error::Socket)?).await.map_err(|_| Error::Ended)?;
        let mut length = [0; 4];
        control.read_exact(&mut length).await.map_err(|_| Error::Ended)?;
        let mut text = vec![0; bounded(length).map_err(Error::Socket)?];
        control.read_exact(&mut text).await.map_err(|_| Error::Ended)?;
        serde_json::from_slice(&text).map_err(|error| Error::Socket(error.into()))
    }
}

fn refused(answer: Answer) -> Error {
    match answer {
        Answer::Failed(reason) => Error::Refused(reason),
        Answer::Serving | Answer::Saved(_) => Error::Refused("it answered something else".to_owned()),
    }
}

fn asynchronous(socket: Pair) -> Result<UnixStream, Error> {
    socket.set_nonblocking(true).map_err(Error::Socket)?;
    UnixStream::from_std(socket).map_err(Error::Socket)
}
