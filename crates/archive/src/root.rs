//! A directory that nothing leads out of: whatever links are below it, as for a process that has it as its root.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The root.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

impl Root {
    /// Takes a directory as a root.
    pub fn open(path: &Path) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Takes an open directory as a root.
    pub(crate) fn of(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// Opens a path. Links are followed, but not out of the root.
    pub(crate) fn at(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let path = if path.is_empty() { b"." } else { path };
        loop {
            // The kernel gives up where someone renames directories meanwhile.
            match rustix::fs::openat2(&self.dir, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return opened,
            }
        }
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// What a path is meant as, by the way in which it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Typed<'p> {
    path: &'p [u8],
}

impl<'p> Typed<'p> {
    pub(crate) fn new(path: &'p Path) -> Self {
        Self { path: path.as_os_str().as_bytes() }
    }

    pub(crate) fn bytes(self) -> &'p [u8] {
        self.path
    }

    /// Whether it ends in a slash.
    pub(crate) fn is_directory(self) -> bool {
        self.path.ends_with(b"/")
    }

    /// The name of what it leads to. None where what is in it is meant: `DIR/.`, the root, a parent.
    pub(crate) fn name(self) -> Option<&'p OsStr> {
        let last = self.path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty())?;
        (!matches!(last, b"." | b"..")).then(|| OsStr::from_bytes(last))
    }

    /// The path of the directory that it is in.
    pub(crate) fn parent(self) -> PathBuf {
        Path::new(OsStr::from_bytes(self.path)).parent().map_or_else(|| "/".into(), Path::to_owned)
    }
}

/// Looks at a name, not at what it links to. None: there is nothing of that name.
pub(crate) fn look(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
