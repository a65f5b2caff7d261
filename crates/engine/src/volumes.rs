//! The volumes of a running VM: a file server, and the streams that bring it the guest's requests. What they are is
//! decided in [`settle`]; what was written to a view of one, and what becomes of that, is in [`view`].

mod merge;
pub(crate) mod settle;
mod tree;
pub mod view;

use crate::link::ask;
use crate::{Engine, Error};
use fcvm_link::{Session, relay};
use fcvm_proto::message::{Done, HostRequest, Volume, VolumeRoot};
use fcvm_spec::{VmSpec, VolumeCache, VolumeSpec, VolumeView};
use fcvm_sys::jail::{Access, DeviceNodes};
use fcvm_volume::{Cache, Events, Server, Shared, State};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// How long a guest may take to mount its volumes and to hear of each.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that lives no longer is not followed by another: what ends it is still there.
const SHORTEST: Duration = Duration::from_secs(1);

/// The volumes of one life of a machine. Dropping it ends them: whoever waits for a file then gets an error.
#[derive(Debug)]
pub(crate) struct Volumes {
    server: Server,
    _relays: JoinSet<()>,
    /// What they were when all of them answered.
    first: Vec<State>,
    since: Instant,
    is_over: bool,
}

/// Whether a server that has ended is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    Worthwhile,
    /// It ended at once.
    Useless,
}

/// No request of the volumes is under way as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    _stream: (fcvm_link::Sender, fcvm_link::Receiver),
}

impl Engine {
    /// Serves the volumes of a VM to its guest, and returns when all of them answer. None: it has none.
    pub(crate) async fn attach_volumes(
        &self,
        spec: &VmSpec,
        session: &Session,
        states: Vec<State>,
    ) -> Result<Option<Volumes>, Error> {
        let volumes = self.of_host(spec)?;
        if volumes.is_empty() {
            return Ok(None);
        }
        let mut states = states.into_iter();
        let shared: Vec<(Shared, Option<State>)> =
            volumes.iter().map(|(_, volume, path)| (shared(volume, path), states.next())).collect();
        let (server, channels) =
            Server::start(&shared, fcvm_store::cgroup_directories(spec)?, &self.settings().entrance()).await?;
        let mut relays = JoinSet::new();
        let attached = async {
            for ((number, volume, path), channel) in volumes.iter().zip(channels) {
                attach(request(*number, volume, path)?, channel, session, &mut relays).await?;
            }
            ask(session, &HostRequest::Volumes).await
        };
        match tokio::time::timeout(PATIENCE, attached).await {
            Ok(attached) => attached.map_err(|error| Error::Volumes { reason: crate::error::in_full(&error) })?,
            Err(_) => {
                return Err(Error::Volumes { reason: format!("they did not answer within {} s", PATIENCE.as_secs()) });
            }
        }
        let first = server.save().await?;
        Ok(Some(Volumes { server, _relays: relays, first, since: Instant::now(), is_over: false }))
    }

    /// The volumes that show something of the host, with their numbers among all and where they are.
    fn of_host<'s>(&self, spec: &'s VmSpec) -> Result<Vec<(usize, &'s VolumeSpec, PathBuf)>, Error> {
        let mut all = Vec::new();
        for (number, volume) in spec.container.volumes.iter().enumerate() {
            all.extend(self.host_path(volume)?.map(|path| (number, volume, path)));
        }
        Ok(all)
    }

    /// Puts another server in the place of one that has ended. Files that are open are lost, the volumes are not.
    pub(crate) async fn renew_volumes(
        &self,
        spec: &VmSpec,
        session: &Session,
        volumes: &mut Volumes,
    ) -> Result<(), Error> {
        let unusable = |error: io::Error| Error::Volumes { reason: error.to_string() };
        let states = volumes.first.iter().map(State::renewed).collect::<io::Result<_>>().map_err(unusable)?;
        if let Some(renewed) = self.attach_volumes(spec, session, states).await? {
            *volumes = renewed;
        }
        Ok(())
    }
}

/// Whether a file server may write to a volume.
fn access(volume: &VolumeSpec) -> Access {
    if volume.read_only || volume.view != VolumeView::Shared { Access::ReadOnly } else { Access::ReadWrite }
}

fn shared(volume: &VolumeSpec, path: &Path) -> Shared {
    Shared {
        path: path.to_owned(),
        access: access(volume),
        cache: match (volume.view, volume.cache) {
            (VolumeView::Fork { .. }, _) => Cache::Still,
            (_, VolumeCache::Auto) => Cache::Auto,
            (_, VolumeCache::None) => Cache::None,
            (_, VolumeCache::Writeback) => Cache::Writeback,
        },
        events: if volume.raises_events() { Events::Told } else { Events::Untold },
        devices: if volume.rights.dev { DeviceNodes::Made } else { DeviceNodes::Refused },
    }
}

fn request(number: usize, volume: &VolumeSpec, path: &Path) -> Result<Volume, Error> {
    let found = fs::metadata(path).map_err(|source| Error::NoSource { path: path.to_owned(), source })?;
    let root = if found.is_dir() { VolumeRoot::Directory } else { VolumeRoot::File };
    Ok(Volume {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        root,
        read_only: access(volume) == Access::ReadOnly,
    })
}

/// Has the guest mount a volume; from then on its requests flow.
async fn attach(volume: Volume, channel: UnixStream, session: &Session, relays: &mut JoinSet<()>) -> Result<(), Error> {
    let number = volume.number;
    let (sender, mut receiver) = session.open(&HostRequest::Volume(volume)).map_err(|_| Error::Lost)?.split();
    let item = receiver.recv().await.map_err(crate::control::refused)?.ok_or(Error::Lost)?;
    match item.message() {
        Ok(Done::Ok) => {}
        Ok(Done::Failed(reason)) => return Err(Error::Refused(reason)),
        Err(_) => return Err(Error::Refused("the guest answered nonsense".to_owned())),
    }
    relays.spawn(async move {
        if let Err(error) = relay::join(sender, receiver, channel).await {
            tracing::debug!(%error, number, "a volume is served no more");
        }
    });
    Ok(())
}

impl Volumes {
    /// How many they are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.first.len()).unwrap_or(u32::MAX)
    }

    /// Waits for the end of the file server, and returns whether another one is worth a try.
    pub(crate) async fn ended(&mut self) -> Renewal {
        if self.is_over {
            return std::future::pending().await;
        }
        let ended = self.server.ended().await;
        self.is_over = true;
        match ended {
            Ok(ending) => tracing::warn!(%ending, "the file server of the volumes ended"),
            Err(error) => tracing::warn!(%error, "the file server of the volumes cannot be watched"),
        }
        if self.since.elapsed() < SHORTEST { Renewal::Useless } else { Renewal::Worthwhile }
    }

    /// Lets what the guest has asked be answered and holds back all else.
    pub(crate) async fn hold(&self, session: &Session) -> Result<Held, Error> {
        let (sender, mut receiver) = session.open(&HostRequest::Hold).map_err(|_| Error::Lost)?.split();
        let item = receiver.recv().await.map_err(crate::control::refused)?.ok_or(Error::Lost)?;
        match item.message() {
            Ok(Done::Ok) => Ok(Held { _stream: (sender, receiver) }),
            _ => Err(Error::Refused("the guest did not hold its volumes".to_owned())),
        }
    }

    /// Tells the states, while the volumes are held.
    pub(crate) async fn save(&self, _held: &Held) -> Result<Vec<State>, Error> {
        Ok(self.server.save().await?)
    }
}
