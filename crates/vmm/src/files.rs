//! Opening the files of a machine for a monitor, which may be a user who is allowed none of them.
//!
//! Only root's monitor is another user than its owner: one of its own, in one group with all of them, to which a file can be
//! lent.

use crate::process::host;
use crate::{Access, Error};
use fcvm_sys::{jail, memfd};
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// How a monitor opens a file once more by its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// To read it.
    Read,
    /// To read and write it.
    ReadWrite,
}

/// Opens a file that the monitor uses by its descriptor.
pub(crate) fn open(role: &'static str, path: &Path, access: Access) -> Result<OwnedFd, Error> {
    let opened = File::options().read(true).write(access != Access::ReadOnly).open(path).and_then(regular);
    opened.map(OwnedFd::from).map_err(file(role, path))
}

/// Opens a file that the monitor opens once more by its descriptor.
pub(crate) fn lent(role: &'static str, path: &Path, again: Again) -> Result<OwnedFd, Error> {
    let access = if again == Again::Read { Access::ReadOnly } else { Access::ReadWrite };
    let opened = File::from(open(role, path, access)?);
    lend(&opened, again).map_err(file(role, path))?;
    Ok(opened.into())
}

/// Opens the memory of a saved machine, which the monitor opens once more.
pub(crate) fn memory(path: &Path, size: u64, again: Again) -> Result<OwnedFd, Error> {
    let opened = File::from(lent("memory", path, again)?);
    let length = opened.metadata().map_err(file("memory", path))?.len();
    if length != size {
        let reason = format!("it has {length} bytes where the machine has {size}");
        return Err(file("memory", path)(io::Error::new(io::ErrorKind::InvalidData, reason)));
    }
    Ok(opened.into())
}

/// Opens a file that the monitor opens once more by its descriptor, and that is not ours to lend: it gets a copy then.
pub(crate) fn readable(role: &'static str, path: &Path) -> Result<OwnedFd, Error> {
    let opened = File::open(path).and_then(regular).and_then(|opened| {
        let for_all = opened.metadata()?.mode() & 0o004 != 0;
        if for_all || !root_is_the_owner() { Ok(opened.into()) } else { copy(opened) }
    });
    opened.map_err(file(role, path))
}

/// Lets the monitor's group open a file; changes nothing that is right already, since machines share files.
fn lend(opened: &File, again: Again) -> io::Result<()> {
    if !root_is_the_owner() {
        return Ok(());
    }
    let metadata = opened.metadata()?;
    if metadata.gid() != jail::NOBODY {
        fchown(opened, None, Some(jail::NOBODY))?;
    }
    let wanted = if again == Again::Read { 0o040 } else { 0o060 };
    if metadata.mode() & wanted != wanted {
        opened.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777 | wanted))?;
    }
    Ok(())
}

/// Makes a pipe of which the monitor opens the second end once more by its descriptor.
pub(crate) fn pipe(what: &'static str) -> Result<(OwnedFd, OwnedFd), Error> {
    let make = || {
        let (ours, theirs) = io::pipe()?;
        if root_is_the_owner() {
            fchown(&theirs, Some(jail::one_user()), None)?;
        }
        Ok((ours.into(), theirs.into()))
    };
    make().map_err(host(what))
}

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
