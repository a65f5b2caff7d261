//! What QEMU inherits: the files of the machine, opened by its owner, and the connections to it.

use super::command::{Inherited, inherited};
use crate::files::{self, Again};
use crate::process::{host, pair};
use crate::{Access, Error, MachineSpec, Memory, Origin, Saved};
use fcvm_sys::memfd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// The owner's ends.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) memory: Memory,
    pub(super) control: UnixStream,
    pub(super) link: UnixStream,
    pub(super) console: UnixStream,
    pub(super) state: OwnedFd,
}

/// QEMU's ends, until it has them.
struct Theirs {
    control: OwnedFd,
    link: OwnedFd,
    console: OwnedFd,
}

/// Opens and makes all that a machine needs; returns the owner's ends, and what QEMU inherits in its order.
pub(super) fn open(spec: &MachineSpec) -> Result<(Ours, Vec<OwnedFd>), Error> {
    let memory = memory(spec)?;
    let (control, its_control) = pair("control connection")?;
    let (link, its_link) = pair("link")?;
    let (console, its_console) = pair("console")?;
    let state = memfd::growing("device-state").map_err(host("state"))?;
    let ours = Ours { memory, control, link, console, state };
    let theirs = Theirs { control: its_control, link: its_link, console: its_console };
    let handed = inherited(spec).into_iter().map(|what| hand_over(what, spec, &ours, &theirs));
    let handed = handed.collect::<Result<_, _>>()?;
    Ok((ours, handed))
}

/// Makes the memory of a machine that boots, or opens that of a saved one.
fn memory(spec: &MachineSpec) -> Result<Memory, Error> {
    match &spec.origin {
        Origin::Boot { .. } => {
            memfd::create("guest-memory", spec.memory.bytes()).map(Memory::Own).map_err(host("memory"))
        }
        Origin::Saved(Saved { memory, .. }) => {
            // It is opened for writing although it is mapped privately.
            files::memory(memory, spec.memory.bytes(), Again::ReadWrite).map(Memory::Private)
        }
    }
}

fn hand_over(what: Inherited, spec: &MachineSpec, ours: &Ours, theirs: &Theirs) -> Result<OwnedFd, Error> {
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().map_err(host("descriptor"));
    match (what, &spec.origin) {
        (Inherited::Memory, _) => match &ours.memory {
            Memory::Own(file) | Memory::Private(file) => copy(file),
            Memory::Served(_) | Memory::Monitors => unreachable!("its memory is a file"),
        },
        (Inherited::Control, _) => copy(&theirs.control),
        (Inherited::Link, _) => copy(&theirs.link),
        (Inherited::Console, _) => copy(&theirs.console),
        (Inherited::State, _) => copy(&ours.state),
        (Inherited::Kernel, Origin::Boot { kernel, .. }) => files::readable("kernel", kernel),
        (Inherited::Initramfs, Origin::Boot { initramfs, .. }) => files::readable("initramfs", initramfs),
        (Inherited::Devices, Origin::Saved(Saved { devices, .. })) => {
            files::open("device state", devices, Access::ReadOnly)
        }
        (Inherited::Disk(index), _) => files::open("disk", &spec.disks[index].path, spec.disks[index].access),
        (Inherited::Kernel | Inherited::Initramfs | Inherited::Devices, _) => {
            unreachable!("a machine inherits what belongs to its origin")
        }
    }
}
