//! What Firecracker inherits: the files of the machine, opened by its owner. It opens each of them once more.

use super::command::{Inherited, inherited};
use crate::files::{self, Again};
use crate::process::host;
use crate::{Access, Error, MachineSpec, Memory, Origin, Saved, memory};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

/// The owner's ends.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) memory: Memory,
    pub(super) log: OwnedFd,
    pub(super) metrics: OwnedFd,
    pub(super) listener: UnixListener,
    /// Where Firecracker says where it has the memory, if a server brings the pages.
    pub(super) pager: Option<UnixListener>,
}

/// Opens and makes all that a machine needs; returns the owner's ends, and what Firecracker inherits in its order.
pub(super) fn open(spec: &MachineSpec) -> Result<(Ours, Vec<OwnedFd>), Error> {
    let (log, its_log) = files::pipe("log")?;
    let (metrics, its_metrics) = files::pipe("metrics")?;
    let listener = socket().map_err(host("link"))?;
    let (mut its_log, mut its_metrics) = (Some(its_log), Some(its_metrics));
    let memory = memory_of(spec)?;
    let mut pager = None;
    let mut handed = Vec::new();
    for what in inherited(spec) {
        handed.push(match (what, &spec.origin) {
            (Inherited::Log, _) => its_log.take().expect("there is one log"),
            (Inherited::Metrics, _) => its_metrics.take().expect("there is one place for metrics"),
            (Inherited::Listener, _) => listener.try_clone().map_err(host("link"))?,
            (Inherited::Kernel, Origin::Boot { kernel, .. }) => files::readable("kernel", kernel)?,
            (Inherited::Initramfs, Origin::Boot { initramfs, .. }) => files::readable("initramfs", initramfs)?,
            (Inherited::Memory, _) => match &memory {
                Memory::Private(file) => file.try_clone().map_err(host("memory"))?,
                _ => unreachable!("it inherits a memory that it maps"),
            },
            (Inherited::Pager, _) => {
                let socket = socket().map_err(host("memory"))?;
                pager = Some(UnixListener::from(socket.try_clone().map_err(host("memory"))?));
                socket
            }
            (Inherited::Devices, Origin::Saved(Saved { devices, .. })) => {
                files::lent("device state", devices, Again::Read)?
            }
            (Inherited::Disk(index), _) => {
                let disk = &spec.disks[index];
                let again = if disk.access == Access::ReadOnly { Again::Read } else { Again::ReadWrite };
                files::lent("disk", &disk.path, again)?
            }
            (Inherited::Kernel | Inherited::Initramfs | Inherited::Devices, _) => {
                unreachable!("a machine inherits what belongs to its origin")
            }
        });
    }
    Ok((Ours { memory, log, metrics, listener: listener.into(), pager }, handed))
}

/// Opens the memory of a saved machine; that of one that boots is Firecracker's own.
fn memory_of(spec: &MachineSpec) -> Result<Memory, Error> {
    let Origin::Saved(Saved { memory: path, pages, server, .. }) = &spec.origin else { return Ok(Memory::Monitors) };
    let opened = files::memory(path, spec.memory.bytes(), Again::Read)?;
    if server.is_none() {
        return Ok(Memory::Private(opened));
    }
    let failed = |source| Error::File { role: "memory pages", path: path.clone(), source };
    memory::Origin::open(opened.into(), pages.as_deref()).map(Memory::Served).map_err(failed)
}

/// Makes the socket that listens once the jail has given it its address.
fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}
