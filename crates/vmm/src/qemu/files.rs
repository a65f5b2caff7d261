//! What QEMU inherits: the files of the machine, opened by its owner, and the connections to it.

use super::command::Inherited;
use crate::{Access, Error, MachineSpec};
use fcvm_sys::memfd;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The owner's ends.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) memory: OwnedFd,
    pub(super) control: UnixStream,
    pub(super) link: UnixStream,
    pub(super) console: UnixStream,
}

/// Opens and makes all that a machine needs; returns the owner's ends, and what QEMU inherits in the order of
/// [`Inherited`].
pub(super) fn open(spec: &MachineSpec) -> Result<(Ours, Vec<OwnedFd>), Error> {
    let memory = memfd::create("guest-memory", spec.memory.bytes()).map_err(host("memory"))?;
    let (control, its_control) = pair("control connection")?;
    let (link, its_link) = pair("link")?;
    let (console, its_console) = pair("console")?;
    let mut inherited = vec![
        (Inherited::Memory, memory.try_clone().map_err(host("memory"))?),
        (Inherited::Control, its_control),
        (Inherited::Link, its_link),
        (Inherited::Console, its_console),
        (Inherited::Kernel, readable("kernel", &spec.kernel)?),
        (Inherited::Initramfs, readable("initramfs", &spec.initramfs)?),
    ];
    for (index, disk) in spec.disks.iter().enumerate() {
        inherited.push((Inherited::Disk(index), open_disk(&disk.path, disk.access)?));
    }
    inherited.sort_by_key(|(what, _)| what.number());
    let descriptors = inherited.into_iter().map(|(_, descriptor)| descriptor).collect();
    Ok((Ours { memory, control, link, console }, descriptors))
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
