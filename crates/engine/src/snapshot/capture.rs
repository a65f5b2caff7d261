//! The one core that captures a running machine, whoever asks: users, forks and caches.
//!
//! ```text
//! room? ─► copy ahead ─► quiesce ─► park ─► pause ─► devices, memory, scratch disk ─► resume ─► write ─► rename
//!                                            └──────── whatever happens here ──────────┘
//! ```
//! A failure at any point leaves the machine running and no half snapshot.

use super::{CaptureRequest, Captured, Quiesce};
use crate::link::GuestLink;
use crate::run::{ask, now_ns};
use crate::{Engine, Error};
use fcvm_proto::message::HostRequest;
use fcvm_store::snapshot::{ContainerState, FileEntry, Manifest, SavedMachine, Source, Staging, digest, name};
use fcvm_store::{VmRecord, sparse};
use fcvm_vmm::Machine;
use fcvm_vmm::memory::{MemoryCopy, Pages, Whole};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a guest may take to write back what it holds.
const QUIESCE: Duration = Duration::from_secs(30);

/// The files of a machine that runs.
#[derive(Clone, Debug)]
pub(crate) struct MachineFiles {
    pub(crate) system: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) scratch: PathBuf,
    /// The memory that it was restored from.
    pub(crate) memory: Option<PathBuf>,
}

/// A machine that runs, as far as a capture needs it.
#[derive(Debug)]
pub(crate) struct Live<'a> {
    pub(crate) record: &'a VmRecord,
    pub(crate) machine: &'a Machine,
    pub(crate) link: &'a GuestLink,
    pub(crate) files: &'a MachineFiles,
    pub(crate) container: ContainerState,
}

/// Memory and devices of one moment.
struct Moment {
    devices: Vec<u8>,
    /// None: the whole memory is in its file already.
    pages: Option<Pages>,
    paused: Duration,
    at_ns: i64,
}

/// The memory as it is being copied.
enum Copying {
    Whole { copy: Whole, into: File },
    Pages(fcvm_vmm::memory::PagesCopy),
}

impl Engine {
    /// Captures a machine.
    pub(crate) async fn capture(&self, live: &Live<'_>, request: CaptureRequest) -> Result<Captured, Error> {
        let staging = self.store().begin_snapshot(request.id.clone())?;
        let copying = begin_copy(live, &staging).await?;
        if request.quiesce == Quiesce::Yes {
            let written = ask(live.link.session(), &HostRequest::Quiesce);
            let written = tokio::time::timeout(QUIESCE, written).await;
            written.map_err(|_| Error::NotSilent { seconds: QUIESCE.as_secs() })??;
        }
        let parked = live.link.park().await?;
        let moment = pause(live, copying, &staging).await;
        drop(parked);
        let moment = moment?;
        let files = write(live, &staging, &moment)?;
        let manifest = describe(live, request, &moment, files);
        let pages = moment.pages.as_ref().map(Pages::count);
        let committed = blocking(move || staging.commit(&manifest)).await?;
        Ok(Captured {
            id: committed.id().clone(),
            pause_us: micros(moment.paused),
            own_pages: pages,
            sizes: committed.sizes()?,
        })
    }
}

/// Makes sure of the room and copies what can be copied while the machine runs.
async fn begin_copy(live: &Live<'_>, staging: &Staging) -> Result<Copying, Error> {
    let failed = |source| Error::Memory { what: "look at", source };
    let copy = live.machine.copy_memory().map_err(failed)?;
    let needed = copy.largest().map_err(failed)? + fs::metadata(&live.files.scratch).map_or(0, |disk| allocated(&disk));
    let free = staging.free_space()?;
    if free < needed {
        return Err(Error::NoRoom { needed, free });
    }
    match copy {
        MemoryCopy::Pages(copy) => Ok(Copying::Pages(copy)),
        MemoryCopy::Whole(copy) => {
            let into = staging.create(name::MEMORY)?;
            let (copy, into) = blocking(move || copy.ahead(&into).map(|()| (copy, into))).await.map_err(copy_failed)?;
            Ok(Copying::Whole { copy, into })
        }
    }
}

/// Saves a moment. The machine runs before and after, whatever happens in between.
async fn pause(live: &Live<'_>, copying: Copying, staging: &Staging) -> Result<Moment, Error> {
    let (begun, at_ns) = (Instant::now(), now_ns());
    live.machine.pause().await?;
    let saved = save(live, copying, staging).await;
    let resumed = live.machine.resume().await;
    let paused = begun.elapsed();
    match (saved, resumed) {
        (Ok((devices, pages)), Ok(())) => Ok(Moment { devices, pages, paused, at_ns }),
        (Ok(_), Err(error)) => Err(error.into()),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(then)) => Err(Error::Twice { first: Box::new(error), then: Box::new(then.into()) }),
    }
}

async fn save(live: &Live<'_>, copying: Copying, staging: &Staging) -> Result<(Vec<u8>, Option<Pages>), Error> {
    let devices = live.machine.save_devices().await?;
    let (scratch, to) = (live.files.scratch.clone(), staging.path(name::SCRATCH));
    let disk = tokio::task::spawn_blocking(move || sparse::copy(&scratch, &to));
    let pages = match copying {
        Copying::Whole { copy, into } => blocking(move || copy.finish(&into)).await.map(|()| None),
        Copying::Pages(copy) => blocking(move || copy.take()).await.map(Some),
    };
    disk.await.expect("copying a file does not panic")?;
    Ok((devices, pages.map_err(copy_failed)?))
}

/// Writes what is not written yet, and tells of every file.
fn write(live: &Live<'_>, staging: &Staging, moment: &Moment) -> Result<BTreeMap<String, FileEntry>, Error> {
    let failed = |what| move |source: io::Error| Error::Memory { what, source };
    staging.create(name::DEVICES)?.write_all(&moment.devices).map_err(failed("write the devices beside"))?;
    let mut own = vec![name::DEVICES, name::SCRATCH];
    let mut shared = vec![(&live.files.system, name::SYSTEM), (&live.files.image, name::IMAGE)];
    match (&moment.pages, &live.files.memory) {
        (Some(pages), Some(memory)) => {
            let mut file = BufWriter::new(staging.create(name::PAGES)?);
            pages.write(&mut file).and_then(|()| file.flush()).map_err(failed("write the pages of"))?;
            own.push(name::PAGES);
            shared.push((memory, name::MEMORY));
        }
        _ => own.push(name::MEMORY),
    }
    for (from, name) in &shared {
        staging.link(from, name)?;
    }
    let entry = |name: &str, path: &Path, sha256| {
        let size = fs::metadata(path).map_err(failed("measure a file of"))?.len();
        Ok::<_, Error>((name.to_owned(), FileEntry { size, sha256 }))
    };
    let mut files = BTreeMap::new();
    for name in own {
        let path = staging.path(name);
        let sha256 = digest(&path).map_err(failed("compute a digest of"))?;
        files.extend([entry(name, &path, Some(sha256))?]);
    }
    for (_, name) in shared {
        files.extend([entry(name, &staging.path(name), None)?]);
    }
    Ok(files)
}

fn describe(live: &Live<'_>, request: CaptureRequest, moment: &Moment, files: BTreeMap<String, FileEntry>) -> Manifest {
    let (record, choice) = (live.record, live.machine.choice());
    Manifest {
        id: request.id,
        created_ns: moment.at_ns,
        kind: request.kind,
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
        pause_us: micros(moment.paused),
        files,
    }
}

fn allocated(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

fn copy_failed(source: io::Error) -> Error {
    Error::Memory { what: "copy", source }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("this work does not panic")
}
