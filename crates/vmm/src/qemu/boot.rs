//! From a specification to a machine: QEMU in its jail, and its first answer.

use super::files::{self, Ours};
use super::{Control, FEATURES, Qemu, Qmp, QmpError, command, saved};
use crate::control::failed;
use crate::process::{self, Process, connected};
use crate::{Accelerator, Error, Line, Machine, MachineSpec, Memory, Origin};
use fcvm_spec::PageSize;
use fcvm_sys::jail::{Bind, Device, Entrance, Jail, Limit};
use std::path::Path;
use std::time::Duration;

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
    let (Ours { memory, control, link, console, state }, descriptors) = files::open(spec)?;
    let jail = Jail {
        arguments: command::arguments(spec, tsc_khz(spec)),
        binds: binds(&qemu.program),
        devices: devices(spec.choice.accel),
        limits: vec![(Limit::CoreSize, 0), (Limit::Descriptors, DESCRIPTORS)],
        cgroups: spec.cgroups.clone(),
        descriptors,
        ..Jail::new(&qemu.program)
    };
    let mut process =
        Process::start(process::Monitor { name: MONITOR, meaning: |_| None }, jail, (spec, entrance), console)?;
    let (qmp, reader) = Qmp::connect(connected(control, "control connection")?);
    process.readers.spawn(reader);
    let control = Control { qmp, state };
    match bring_up(&control, &memory, process.pid(), spec).await {
        // The connection breaks because QEMU ended, and that is what its user wants to read of.
        Err(Error::Steer { source, .. }) if source.is_closed() => return Err(process.ended_early().await),
        brought_up => brought_up?,
    }
    let control = crate::control::Control::Qemu(control);
    let line = Line::wire(connected(link, "link")?);
    Ok(Machine::new(process, spec.choice.clone(), line, memory, control))
}

/// Waits for QEMU's first answer, by which it has read its command line and all of its files, and loads a saved machine.
async fn bring_up(control: &Control, memory: &Memory, pid: u32, spec: &MachineSpec) -> Result<(), Error> {
    let silent = |_| Error::Silent { monitor: MONITOR, seconds: PATIENCE.as_secs() };
    let greeted = tokio::time::timeout(PATIENCE, control.qmp.negotiate()).await.map_err(silent)?;
    greeted.map_err(failed::<QmpError>("greet"))?;
    match &spec.origin {
        Origin::Boot { .. } => Ok(()),
        Origin::Saved(saved) => saved::load(control, memory, pid, (saved, spec)).await,
    }
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
    } else if spec.pages == PageSize::Huge && !FEATURES.huge_pages {
        "its memory is not made of huge pages; use Firecracker, or leave out --hugepages".to_owned()
    } else if matches!(&spec.origin, Origin::Saved(saved) if saved.server.is_some()) {
        "its memory is mapped, nobody serves it".to_owned()
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
