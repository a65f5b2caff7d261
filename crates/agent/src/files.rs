//! Files of the image, which may lead anywhere: opened so that nothing leads out of its root.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Opens a path as a process in `root` would.
pub(crate) fn open_beneath(root: &Path, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(root, path.trim_start_matches('/'), flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Reads a regular file of `root` as text, at most `limit` bytes of it.
pub(crate) fn read_beneath(root: &Path, path: &str, limit: usize) -> io::Result<String> {
    let file = File::from(open_beneath(root, path, OFlags::RDONLY | OFlags::NONBLOCK)?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether `path` of `root` is a file that someone may execute: nothing, `NotFound`, or `PermissionDenied`.
pub(crate) fn executable(root: &Path, path: &Path) -> io::Result<()> {
    let path = path.to_str().ok_or(io::ErrorKind::NotFound)?;
    let metadata = File::from(open_beneath(root, path, OFlags::PATH)?).metadata()?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    if metadata.is_file() && mode & 0o111 != 0 { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}
