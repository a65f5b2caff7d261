//! From a specification to a machine: QEMU in its jail, and its first answer.

use super::files::{self, Ours};
use super::{FEATURES, Qemu, Qmp, QmpError, command, saved};
use crate::console::{Beginning, CONSOLE_FILE};
use crate::tail::Tail;
use crate::{Accelerator, Console, Error, Machine, MachineSpec, Origin};
use fcvm_sys::jail::{self, Bind, Device, Entrance, Jail, Limit, Spawned};
use fcvm_sys::process::Watched;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::task::JoinSet;

const MONITOR: &str = "QEMU";

/// It answers within 0.2 s, but a host with many machines may be slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the host keeps programs, their libraries and QEMU's firmware.
const SYSTEM: [&str; 5] = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/nix/store"];

/// More than QEMU ever has open with the most disks.
const DESCRIPTORS: u64 = 512;

/// Boots a machine. See [`crate::boot`].
pub(crate) async fn boot(qemu: &Qemu, spec: &MachineSpec, entrance: &Entrance) -> Result<Machine, Error> {
    check(spec)?;
    let log = spec.run_dir.join(CONSOLE_FILE);
    let beginning =
        Beginning::create(&log).map_err(|source| Error::File { role: "console log", path: log.clone(), source })?;
    let (ours, descriptors) = files::open(spec)?;
    let (stderr, its_stderr) = UnixStream::pair().map_err(host("standard error"))?;
    stderr.set_nonblocking(true).map_err(host("standard error"))?;
    let jail = Jail {
        arguments: command::arguments(spec, tsc_khz(spec)),
        binds: binds(&qemu.program),
        devices: devices(spec.choice.accel),
        limits: vec![(Limit::CoreSize, 0), (Limit::Descriptors, DESCRIPTORS)],
        descriptors,
        stderr: Stdio::from(OwnedFd::from(its_stderr)),
        ..Jail::new(&qemu.program)
    };
    let spawned = jail::spawn(jail, entrance).map_err(|source| Error::Spawn { monitor: MONITOR, source })?;
    let mut machine = assemble(spec, spawned, ours, stderr, beginning).map_err(host("connections"))?;
    greet(&mut machine).await?;
    if let Origin::Saved(saved) = &spec.origin
        && let Err(error) = saved::load(&machine, saved, spec).await
    {
        return Err(match error {
            Error::Steer { source: QmpError::Closed, .. } => ended(&mut machine).await,
            other => other,
        });
    }
    Ok(machine)
}

/// Measures only for those who need it: it takes 25 ms.
fn tsc_khz(spec: &MachineSpec) -> Option<u32> {
    let needed = spec.choice.accel == Accelerator::Tcg && matches!(spec.origin, Origin::Boot { .. });
    needed.then(fcvm_sys::tsc::frequency_khz).flatten()
}

fn check(spec: &MachineSpec) -> Result<(), Error> {
    let reason = if spec.disks.len() > FEATURES.disks {
        format!("it takes {} disks at most", FEATURES.disks)
    } else if spec.cpus == 0 {
        "a machine has one processor at least".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Unsupported { monitor: MONITOR, reason })
}

fn binds(program: &Path) -> Vec<Bind> {
    let system = SYSTEM.into_iter().map(Path::new).filter(|path| path.exists());
    // A QEMU of one's own has its firmware beside it: PREFIX/bin/qemu, PREFIX/share/qemu.
    let is_seen = SYSTEM.iter().any(|path| program.starts_with(path));
    let prefix = program.parent().and_then(Path::parent).filter(|prefix| !is_seen && *prefix != Path::new("/"));
    system.chain(prefix).map(Bind::read_only).collect()
}

fn devices(accelerator: Accelerator) -> Vec<Device> {
    match accelerator {
        Accelerator::Kvm => vec![Device::Kvm],
        Accelerator::Tcg => Vec::new(),
    }
}

fn assemble(
    spec: &MachineSpec,
    spawned: Spawned,
    ours: Ours,
    stderr: UnixStream,
    beginning: Beginning,
) -> io::Result<Machine> {
    let tokio = tokio::net::UnixStream::from_std;
    let mut readers = JoinSet::new();
    let console = Console::default();
    readers.spawn(console.clone().follow(tokio(ours.console)?, beginning));
    let tail = Tail::default();
    readers.spawn(tail.clone().follow(tokio(stderr)?));
    let (qmp, reader) = Qmp::connect(tokio(ours.control)?);
    readers.spawn(reader);
    Ok(Machine {
        child: Watched::new(spawned.child)?,
        choice: spec.choice.clone(),
        isolation: spawned.isolation,
        link: Some(tokio(ours.link)?),
        memory: ours.memory,
        state: ours.state,
        console,
        stderr: tail,
        qmp,
        readers,
        killed: false,
        exit: None,
    })
}

/// Waits for QEMU's first answer: then it has read its command line and all of its files.
async fn greet(machine: &mut Machine) -> Result<(), Error> {
    let silent = || Error::Silent { monitor: MONITOR, seconds: PATIENCE.as_secs() };
    let answer = tokio::time::timeout(PATIENCE, machine.qmp.negotiate()).await.map_err(|_| silent())?;
    match answer {
        Ok(()) => Ok(()),
        // The connection breaks because QEMU ended, and that is what its user wants to read of.
        Err(QmpError::Closed) => Err(ended(machine).await),
        Err(source) => Err(Error::Steer { what: "greet", source }),
    }
}

async fn ended(machine: &mut Machine) -> Error {
    let Ok(ending) = machine.child.ended().await else {
        return Error::Silent { monitor: MONITOR, seconds: 0 };
    };
    while machine.readers.join_next().await.is_some() {}
    Error::EndedEarly { monitor: MONITOR, ending, stderr: machine.stderr.text() }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}
