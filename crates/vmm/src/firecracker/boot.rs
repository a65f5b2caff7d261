//! From a specification to a machine: Firecracker in its jail, and the calls that make it run.

use super::api::{Api, ApiError, Call};
use super::command;
use super::files::{self, Ours};
use super::metrics::Counts;
use super::pager::Handover;
use super::pages;
use super::supervision::Supervised;
use super::workspace::{self, Workspace};
use super::{Control, FEATURES, Firecracker, ending, saved};
use crate::control::failed;
use crate::process::{self, Process, host, pair};
use crate::{Accelerator, Access, Error, Line, Machine, MachineSpec, Memory, Origin, Saved};
use fcvm_spec::{DiskFormat, RootfsSize};
use fcvm_sys::jail::{Bind, Device, Entrance, Jail, Limit};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::net::unix::pipe;

pub(super) const MONITOR: &str = "Firecracker";

/// It listens within 3 ms, but a host with many machines may be slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// More than Firecracker ever has open, a thousand connections over the vsock included.
const DESCRIPTORS: u64 = 2048;

/// What the workspace holds beside a machine's memory, in bytes: names, sockets, the state of devices.
const BESIDE: u64 = 32 << 20;

/// Boots a machine. See [`crate::boot`].
pub(crate) async fn boot(firecracker: &Firecracker, spec: &MachineSpec, entrance: &Entrance) -> Result<Machine, Error> {
    check(spec)?;
    let (Ours { mut memory, log, metrics, listener, pager }, descriptors) = files::open(spec)?;
    let (console, its_console) = pair("console")?;
    let jail = Jail {
        arguments: command::arguments(),
        binds: vec![Bind::read_only(&firecracker.program)],
        devices: devices(spec),
        workspace: Some(workspace::ordered(spec.memory.bytes() + BESIDE, command::entries(spec))),
        limits: vec![(Limit::CoreSize, 0), (Limit::Descriptors, DESCRIPTORS), (Limit::FileSize, largest_file(spec)?)],
        cgroups: spec.cgroups.clone(),
        descriptors,
        stdout: Stdio::from(its_console),
        ..Jail::new(&firecracker.program)
    };
    let mut process =
        Process::start(process::Monitor { name: MONITOR, meaning: ending::meaning }, jail, (spec, entrance), console)?;
    process.readers.spawn(process.stderr.clone().follow(read("log", log)?));
    let counts = Counts::create(&spec.run_dir).map_err(host("metrics"))?;
    process.readers.spawn(counts.follow(read("metrics", metrics)?));
    let workspace = Workspace::of(process.pid());
    let mut control = Control::new(workspace, &memory);
    let handover = handover(pager, spec, &process)?;
    let silent = |_| Error::Silent { monitor: MONITOR, seconds: PATIENCE.as_secs() };
    tokio::select! {
        reached = tokio::time::timeout(PATIENCE, control.api.wait()) => {
            reached.map_err(silent)?.map_err(failed::<ApiError>("reach"))?;
        }
        _ = process.child.ended() => return Err(process.ended_early().await),
    }
    match bring_up(&mut control, &mut memory, (process.pid(), handover), spec).await {
        // A load that fails ends Firecracker, and a connection that breaks says that it ended.
        Err(error @ Error::Steer { .. }) => Err(explain(error, &mut process).await),
        Err(error) => Err(error),
        Ok(supervised) => {
            let line = Line::dialled(UnixListener::from_std(listener).map_err(host("link"))?);
            let control = crate::control::Control::Firecracker(control);
            Ok(Machine::new(process, spec.choice.clone(), line, memory, control).supervised(supervised))
        }
    }
}

fn check(spec: &MachineSpec) -> Result<(), Error> {
    let reason = if spec.disks.len() > FEATURES.disks {
        format!("it takes {} disks at most", FEATURES.disks)
    } else if spec.disks.iter().any(|disk| disk.format != DiskFormat::Raw) {
        "it takes raw disks only".to_owned()
    } else if spec.cpus == 0 || spec.cpus > FEATURES.cpus {
        format!("a machine has from 1 to {} processors", FEATURES.cpus)
    } else if spec.choice.accel != Accelerator::Kvm {
        "it needs KVM".to_owned()
    } else if let Some(reason) = pages::refusal(spec) {
        reason
    } else {
        return Ok(());
    };
    Err(Error::Unsupported { monitor: MONITOR, reason })
}

/// Nothing that it writes is larger than its largest disk, or than the machine's memory. Its scratch disk may grow.
fn largest_file(spec: &MachineSpec) -> Result<u64, Error> {
    let mut largest = spec.memory.bytes() + BESIDE;
    for disk in &spec.disks {
        if disk.access == Access::ReadWrite {
            largest = largest.max(RootfsSize::MOST.bytes());
        }
        let failed = |source| Error::File { role: "disk", path: disk.path.clone(), source };
        largest = largest.max(std::fs::metadata(&disk.path).map_err(failed)?.len());
    }
    Ok(largest)
}

/// What may fill its memory is asked for by machines whose memory others fill.
fn devices(spec: &MachineSpec) -> Vec<Device> {
    match &spec.origin {
        Origin::Saved(Saved { server: Some(_), .. }) if pages::has_filling() => vec![Device::Kvm, Device::Userfaultfd],
        Origin::Boot { .. } | Origin::Saved(_) => vec![Device::Kvm],
    }
}

fn handover(pager: Option<StdListener>, spec: &MachineSpec, process: &Process) -> Result<Option<Handover>, Error> {
    let (Some(listener), Origin::Saved(Saved { server: Some(server), .. })) = (pager, &spec.origin) else {
        return Ok(None);
    };
    Ok(Some(Handover {
        listener: UnixListener::from_std(listener).map_err(host("memory"))?,
        server: server.clone(),
        monitor: process.child.pidfd().map_err(host("memory"))?,
        size: spec.memory.bytes(),
    }))
}

fn read(what: &'static str, pipe: OwnedFd) -> Result<pipe::Receiver, Error> {
    pipe::Receiver::from_owned_fd(pipe).map_err(host(what))
}

/// Waits for the API, and makes the calls that a machine takes.
async fn bring_up(
    control: &mut Control,
    memory: &mut Memory,
    loading: (u32, Option<Handover>),
    spec: &MachineSpec,
) -> Result<Option<Supervised>, Error> {
    let silent = |_| Error::Silent { monitor: MONITOR, seconds: PATIENCE.as_secs() };
    let version = tokio::time::timeout(PATIENCE, first_answer(&control.api)).await.map_err(silent)?;
    control.version = version.map_err(failed::<ApiError>("greet"))?;
    match &spec.origin {
        Origin::Boot { .. } => {
            for call in command::boot(spec) {
                control.api.call(&call).await.map_err(failed::<ApiError>("start"))?;
            }
            Ok(None)
        }
        Origin::Saved(saved) => saved::load(control, memory, loading, saved).await,
    }
}

async fn first_answer(api: &Api) -> Result<String, ApiError> {
    let answer = api.call(&Call::get("/version")).await?;
    Ok(answer["firecracker_version"].as_str().unwrap_or_default().to_owned())
}

/// How long a Firecracker that refused a call may take to end, if it ends at all.
const LAST_BREATH: Duration = Duration::from_secs(1);

async fn explain(error: Error, process: &mut Process) -> Error {
    let Error::Steer { source, .. } = &error else { return error };
    if source.is_closed() {
        return process.ended_early().await;
    }
    let _its_end_comes_with_the_process = tokio::time::timeout(LAST_BREATH, process.ended()).await;
    error
}
