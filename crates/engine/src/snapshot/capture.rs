//! The one core that captures a running machine, whoever asks: users, forks and caches.
//!
//! ```text
//! room? ─► copy ahead ─► quiesce ─► park ─► pause ─► devices, memory, scratch disk ─► resume ─► write ─► rename
//!                                            └──────── whatever happens here ──────────┘
//! ```
//! A failure at any point leaves the machine running and no half snapshot.

use super::{CaptureRequest, Captured, Quiesce, census};
use crate::disks::ExtraDisk;
use crate::link::{GuestLink, ask, within};
use crate::run::now_ns;
use crate::volumes::{Held, Volumes};
use crate::{Engine, Error, clock};
use fcvm_proto::census::Census;
use fcvm_proto::message::HostRequest;
use fcvm_store::snapshot::{
    ContainerState, FileEntry, Holds, Kind, Manifest, SavedDisk, SavedMachine, Source, Staging, digest, disk_name, name,
};
use fcvm_store::{FailPoint, VmRecord, sparse};
use fcvm_vmm::Machine;
use fcvm_vmm::memory::{MemoryCopy, Pages, Whole};
use fcvm_volume::State;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a guest may take to write back what it holds: the host's disk may have much else to write before.
const QUIESCE: Duration = Duration::from_secs(120);
/// How long requests of volumes that are under way may take.
const HOLD: Duration = Duration::from_secs(30);

/// How long a guest that goes on may take to say its time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The files of a machine that runs.
#[derive(Clone, Debug)]
pub(crate) struct MachineFiles {
    pub(crate) system: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) scratch: PathBuf,
    /// The user's disks.
    pub(crate) extra: Vec<ExtraDisk>,
    /// The memory that it was restored from.
    pub(crate) memory: Option<PathBuf>,
}

impl MachineFiles {
    /// Those that a snapshot has lent into a directory.
    pub(crate) fn lent(dir: &Path, extra: Vec<ExtraDisk>) -> Self {
        let file = |name: &str| dir.join(name);
        Self {
            system: file(name::SYSTEM),
            image: file(name::IMAGE),
            scratch: file(name::SCRATCH),
            extra,
            memory: Some(file(name::MEMORY)),
        }
    }

    /// The disks that a capture copies while nobody writes to them, and where to.
    pub(super) fn copies(&self, staging: &Staging) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
        let mut copies = vec![(self.scratch.clone(), staging.path(name::SCRATCH))];
        for (number, disk) in self.extra.iter().enumerate() {
            if disk.saved()? == SavedDisk::Copied {
                copies.push((disk.path.clone(), staging.disk(number)));
            }
        }
        Ok(copies)
    }

    /// The room that those copies take, in bytes.
    pub(super) fn copied_bytes(&self) -> Result<u64, Error> {
        let scratch = sparse::allocated(&self.scratch)?;
        self.extra.iter().try_fold(scratch, |sum, disk| Ok(sum + disk.copied_bytes()?))
    }

    /// What becomes of the user's disks in a snapshot.
    pub(super) fn saved_disks(&self) -> Result<Vec<SavedDisk>, Error> {
        self.extra.iter().map(ExtraDisk::saved).collect()
    }

    /// Links those of the user's disks into a snapshot that never change; returns all of its disks that are in it, by name.
    pub(super) fn link_disks(&self, disks: &[SavedDisk], staging: &Staging) -> Result<Vec<(String, SavedDisk)>, Error> {
        let mut within = Vec::new();
        for (number, (disk, saved)) in self.extra.iter().zip(disks).enumerate() {
            match saved {
                SavedDisk::Outside(_) => continue,
                SavedDisk::Linked => staging.link(&disk.path, &disk_name(number))?,
                SavedDisk::Copied => {}
            }
            within.push((disk_name(number), saved.clone()));
        }
        Ok(within)
    }
}

/// Copies disks of which nobody writes to any. Blocks.
pub(super) fn copy_disks(copies: &[(PathBuf, PathBuf)]) -> Result<(), Error> {
    Ok(copies.iter().try_for_each(|(from, to)| sparse::copy(from, to))?)
}

/// A machine that runs, as far as a capture needs it.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    pub(crate) record: &'a VmRecord,
    pub(crate) machine: &'a Machine,
    pub(crate) link: &'a GuestLink,
    pub(crate) files: &'a MachineFiles,
    pub(crate) volumes: Option<&'a Volumes>,
    pub(crate) container: ContainerState,
}

/// A machine that goes on already, and the moment that was taken of it: what is left is to write it down.
#[derive(Debug)]
pub(crate) struct Taken {
    staging: Staging,
    files: MachineFiles,
    devices: Vec<u8>,
    census: Option<Census>,
    /// What its volumes were, if it has any.
    states: Option<Vec<State>>,
    memory: Moment,
    /// Complete but for its files.
    manifest: Manifest,
}

/// When the memory is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// Most of it while the machine runs: it is paused for a short time, and all of it takes longer.
    Ahead,
    /// All of it while the machine is paused: where nobody waits for the machine, but for the capture.
    AtOnce,
}

/// How a moment is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// With a digest of every byte.
    Verifiable,
    /// Without: what is made anew when it is lost.
    Cheaply,
}

/// The memory as it is being copied.
enum Copying {
    Whole { copy: Whole, into: File, ahead: bool },
    Pages(fcvm_vmm::memory::PagesCopy),
    Monitors { into: File },
}

/// The memory of the moment that was taken.
#[derive(Debug)]
enum Moment {
    /// It is in its file already.
    Kept,
    /// Pages over the memory that the machine was restored from.
    Pages(Pages),
    /// The monitor's own copy, which goes into a file.
    Copy { copy: Whole, into: File },
}

impl Engine {
    /// Captures a machine for a user.
    pub(crate) async fn capture(&self, live: &Live<'_>, request: CaptureRequest) -> Result<Captured, Error> {
        if request.holds == Holds::Disk {
            return self.capture_disk(live, request).await;
        }
        let keep = if request.kind == Kind::User { Keep::Verifiable } else { Keep::Cheaply };
        let taken = self.take(live, request, Copy::Ahead).await?;
        blocking(move || taken.write(keep)).await
    }

    /// Takes a moment of a machine, which goes on.
    pub(crate) async fn take(&self, live: &Live<'_>, request: CaptureRequest, when: Copy) -> Result<Taken, Error> {
        let staging = self.store().begin_snapshot(request.id.clone())?;
        let copying = begin_copy(live, &staging, when).await?;
        let census = census_of(live).await;
        if request.quiesce == Quiesce::Yes {
            let written = ask(live.link.session(), &HostRequest::Quiesce);
            within(QUIESCE, "write back its files", written).await?;
        }
        let held = hold(live).await?;
        let parked = live.link.park().await?;
        let (begun, at_ns) = (Instant::now(), now_ns());
        let saved = pause(live, copying, &staging).await;
        let paused = begun.elapsed();
        drop(parked);
        let states = held.map(|(_until_here, states)| states);
        // Its clock stood still as long as it did. That this fails is no reason to lose the snapshot.
        match tokio::time::timeout(PATIENCE, clock::set(live.link.session())).await {
            Ok(Ok(off_ns)) => tracing::debug!(off_ns, "the clock goes on"),
            Ok(Err(error)) => tracing::warn!(%error, "the clock was not set after a pause"),
            Err(_) => tracing::warn!("the guest did not say its time after a pause"),
        }
        let (devices, memory) = saved?;
        let manifest = describe(live, request, at_ns, paused)?;
        Ok(Taken { staging, files: live.files.clone(), devices, census, states, memory, manifest })
    }
}

/// Lets the requests of the volumes be answered, begins no others, and tells what the volumes are then.
async fn hold(live: &Live<'_>) -> Result<Option<(Held, Vec<State>)>, Error> {
    let Some(volumes) = live.volumes else { return Ok(None) };
    let hold = async {
        let held = volumes.hold(live.link.session()).await?;
        let states = volumes.save(&held).await?;
        Ok(Some((held, states)))
    };
    within(HOLD, "let its volumes rest", hold).await
}

/// What runs in the container, if it can be told: a snapshot is as good without.
async fn census_of(live: &Live<'_>) -> Option<Census> {
    if live.container == ContainerState::Unstarted {
        return None;
    }
    let taken = tokio::time::timeout(PATIENCE, census::take(live.link.session())).await.unwrap_or(Err(Error::Lost));
    taken.inspect_err(|error| tracing::warn!(%error, "what runs in the container is not known")).ok()
}

/// Makes sure of the room and copies what can be copied while the machine runs.
async fn begin_copy(live: &Live<'_>, staging: &Staging, when: Copy) -> Result<Copying, Error> {
    let failed = |source| Error::Memory { what: "look at", source };
    let copy = live.machine.copy_memory().map_err(failed)?;
    let needed = copy.largest().map_err(failed)? + live.files.copied_bytes()?;
    staging.need(needed)?;
    match copy {
        MemoryCopy::Pages(copy) => Ok(Copying::Pages(copy)),
        MemoryCopy::Monitors { .. } => Ok(Copying::Monitors { into: staging.create(name::MEMORY)? }),
        MemoryCopy::Whole(copy) => {
            let into = staging.create(name::MEMORY)?;
            if when == Copy::AtOnce {
                return Ok(Copying::Whole { copy, into, ahead: false });
            }
            let (copy, into) = blocking(move || copy.ahead(&into).map(|()| (copy, into))).await.map_err(copy_failed)?;
            Ok(Copying::Whole { copy, into, ahead: true })
        }
    }
}

/// Saves a moment. The machine runs before and after, whatever happens in between.
async fn pause(live: &Live<'_>, copying: Copying, staging: &Staging) -> Result<(Vec<u8>, Moment), Error> {
    live.machine.pause().await?;
    let saved = save(live, copying, staging).await;
    match (saved, live.machine.resume().await) {
        (saved, Ok(())) => saved,
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), Err(then)) => Err(Error::Twice { first: Box::new(error), then: Box::new(then.into()) }),
    }
}

async fn save(live: &Live<'_>, copying: Copying, staging: &Staging) -> Result<(Vec<u8>, Moment), Error> {
    staging.reach(FailPoint::CapturePaused)?;
    let devices = live.machine.save_devices().await?;
    let copies = live.files.copies(staging)?;
    let disks = tokio::task::spawn_blocking(move || copy_disks(&copies));
    let memory = match copying {
        Copying::Whole { copy, into, ahead: true } => blocking(move || copy.finish(&into)).await.map(|()| Moment::Kept),
        Copying::Whole { copy, into, ahead: false } => blocking(move || copy.ahead(&into)).await.map(|()| Moment::Kept),
        Copying::Pages(copy) => blocking(move || copy.take()).await.map(Moment::Pages),
        Copying::Monitors { into } => live.machine.saved_memory().map(|copy| Moment::Copy { copy, into }),
    };
    disks.await.expect("copying a file does not panic")?;
    staging.reach(FailPoint::CaptureSaved)?;
    Ok((devices, memory.map_err(copy_failed)?))
}

impl Taken {
    /// Writes down what is not written yet and makes the snapshot whole. Blocks.
    pub(crate) fn write(self, keep: Keep) -> Result<Captured, Error> {
        let failed = |what| move |source: io::Error| Error::Memory { what, source };
        let Self { staging, files, devices, census, states, memory, mut manifest } = self;
        staging.create(name::DEVICES)?.write_all(&devices).map_err(failed("write the devices beside"))?;
        let mut own = vec![name::DEVICES, name::SCRATCH];
        if let Some(census) = census {
            let text = serde_json::to_vec(&census).expect("a census is plain");
            staging.create(name::CENSUS)?.write_all(&text).map_err(failed("write the census beside"))?;
            own.push(name::CENSUS);
        }
        if let Some(states) = states {
            let text = serde_json::to_vec(&states).expect("states are plain");
            staging.create(name::VOLUMES)?.write_all(&text).map_err(failed("write the volumes beside"))?;
            own.push(name::VOLUMES);
        }
        let mut shared = vec![(&files.system, name::SYSTEM), (&files.image, name::IMAGE)];
        let mut own_pages = None;
        match (memory, &files.memory) {
            (Moment::Pages(pages), Some(memory)) => {
                own_pages = Some(pages.count());
                let mut file = BufWriter::new(staging.create(name::PAGES)?);
                pages.write(&mut file).and_then(|()| file.flush()).map_err(failed("write the pages of"))?;
                own.push(name::PAGES);
                shared.push((memory, name::MEMORY));
            }
            (Moment::Copy { copy, into }, _) => {
                copy.ahead(&into).map_err(copy_failed)?;
                own.push(name::MEMORY);
            }
            (Moment::Kept | Moment::Pages(_), _) => own.push(name::MEMORY),
        }
        for (from, name) in &shared {
            staging.link(from, name)?;
        }
        let own = own.iter().map(|name| ((*name).to_owned(), keep));
        let shared = shared.iter().map(|(_, name)| ((*name).to_owned(), Keep::Cheaply));
        let disks = keep_disks(&files, &manifest.disks, &staging, keep)?;
        for (name, keep) in own.chain(shared).chain(disks) {
            let entry = entry(&staging.path(&name), keep).map_err(failed("measure a file of"))?;
            manifest.files.insert(name, entry);
        }
        let pause_us = manifest.pause_us;
        let snapshot = staging.commit(&manifest)?;
        Ok(Captured { id: snapshot.id().clone(), pause_us, own_pages, sizes: snapshot.sizes()? })
    }
}

/// The names of the user's disks in a snapshot, each with how it is kept.
pub(super) fn keep_disks(
    files: &MachineFiles,
    disks: &[SavedDisk],
    staging: &Staging,
    keep: Keep,
) -> Result<Vec<(String, Keep)>, Error> {
    let within = files.link_disks(disks, staging)?.into_iter();
    Ok(within.map(|(name, saved)| (name, if saved == SavedDisk::Copied { keep } else { Keep::Cheaply })).collect())
}

pub(super) fn entry(path: &Path, keep: Keep) -> io::Result<FileEntry> {
    let sha256 = (keep == Keep::Verifiable).then(|| digest(path)).transpose()?;
    Ok(FileEntry { size: fs::metadata(path)?.len(), sha256 })
}

pub(super) fn describe(
    live: &Live<'_>,
    request: CaptureRequest,
    at_ns: i64,
    paused: Duration,
) -> Result<Manifest, Error> {
    let (record, choice) = (live.record, live.machine.choice());
    Ok(Manifest {
        id: request.id,
        created_ns: at_ns,
        kind: request.kind,
        holds: request.holds,
        labels: request.labels,
        source: Source { id: record.spec.id.clone(), name: record.spec.name.clone() },
        parent: record.restored.as_ref().map(|restored| restored.snapshot.clone()),
        spec: record.spec.clone(),
        image_digest: record.image_digest.clone(),
        command: record.command.clone(),
        machine: SavedMachine {
            backend: choice.backend.to_string(),
            version: live.machine.version(),
            accel: choice.accel.to_string(),
            processor: choice.processor(),
        },
        container: live.container,
        pause_us: u64::try_from(paused.as_micros()).unwrap_or(u64::MAX),
        disks: live.files.saved_disks()?,
        files: BTreeMap::new(),
    })
}

fn copy_failed(source: io::Error) -> Error {
    Error::Memory { what: "copy", source }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("this work does not panic")
}
