//! What QEMU inherits: the files of the machine, opened by its owner, and the connections to it.

use super::command::{Inherited, inherited};
use crate::{Access, Error, MachineSpec, Memory, Origin, Saved};
use fcvm_sys::{jail, memfd};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

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
            let opened = saved_memory(memory, spec.memory.bytes());
            opened.map(Memory::Private).map_err(file("memory", memory))
        }
    }
}

fn hand_over(what: Inherited, spec: &MachineSpec, ours: &Ours, theirs: &Theirs) -> Result<OwnedFd, Error> {
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().map_err(host("descriptor"));
    match (what, &spec.origin) {
        (Inherited::Memory, _) => ours.memory.descriptor().try_clone_to_owned().map_err(host("memory")),
        (Inherited::Control, _) => copy(&theirs.control),
        (Inherited::Link, _) => copy(&theirs.link),
        (Inherited::Console, _) => copy(&theirs.console),
        (Inherited::State, _) => copy(&ours.state),
        (Inherited::Kernel, Origin::Boot { kernel, .. }) => readable("kernel", kernel),
        (Inherited::Initramfs, Origin::Boot { initramfs, .. }) => readable("initramfs", initramfs),
        (Inherited::Devices, Origin::Saved(Saved { devices, .. })) => {
            let opened = File::open(devices).and_then(regular);
            opened.map(OwnedFd::from).map_err(file("device state", devices))
        }
        (Inherited::Disk(index), _) => open_disk(&spec.disks[index].path, spec.disks[index].access),
        (Inherited::Kernel | Inherited::Initramfs | Inherited::Devices, _) => {
            unreachable!("a machine inherits what belongs to its origin")
        }
    }
}

/// Opens the memory of a saved machine. QEMU opens it once more by the descriptor, for writing although it maps it
/// privately; root's QEMU is another user, who may do so as a member of the file's group.
fn saved_memory(path: &Path, size: u64) -> io::Result<OwnedFd> {
    let opened = regular(File::options().read(true).write(true).open(path)?)?;
    let metadata = opened.metadata()?;
    if metadata.len() != size {
        let reason = format!("it has {} bytes where the machine has {size}", metadata.len());
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    if root_is_the_owner() && metadata.gid() != jail::NOBODY {
        std::os::unix::fs::fchown(&opened, None, Some(jail::NOBODY))?;
        opened.set_permissions(std::fs::Permissions::from_mode(0o660))?;
    }
    Ok(opened.into())
}

fn pair(what: &'static str) -> Result<(UnixStream, OwnedFd), Error> {
    let (ours, theirs) = UnixStream::pair().map_err(host(what))?;
    ours.set_nonblocking(true).map_err(host(what))?;
    Ok((ours, theirs.into()))
}

fn open_disk(path: &Path, access: Access) -> Result<OwnedFd, Error> {
    let opened = File::options().read(true).write(access == Access::ReadWrite).open(path).and_then(regular);
    opened.map(OwnedFd::from).map_err(file("disk", path))
}

/// Opens a file that QEMU opens once more by its descriptor, as a user who may not be allowed to: then it gets a copy.
fn readable(role: &'static str, path: &Path) -> Result<OwnedFd, Error> {
    let opened = File::open(path).and_then(regular).and_then(|opened| {
        let for_all = opened.metadata()?.mode() & 0o004 != 0;
        if for_all || !root_is_the_owner() { Ok(opened.into()) } else { copy(opened) }
    });
    opened.map_err(file(role, path))
}

/// Only root's monitor runs as another user than its owner.
fn root_is_the_owner() -> bool {
    fcvm_sys::process::runs_as_root()
}

/// Copies a file into memory, which everyone may open who has the descriptor.
fn copy(mut from: File) -> io::Result<OwnedFd> {
    let mut to = File::from(memfd::create("copy", from.metadata()?.len())?);
    io::copy(&mut from, &mut to)?;
    Ok(to.into())
}

/// A device, a pipe or a directory is none of a machine's files.
fn regular(opened: File) -> io::Result<File> {
    if opened.metadata()?.is_file() {
        return Ok(opened);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

fn file<'a>(role: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { role, path: path.to_owned(), source }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}
