//! Where a copy goes, by podman's rules about what is there and how the path was typed.

use crate::Error;
use crate::root::{Root, Typed};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// More symbolic links on one way than this are a loop, as in the kernel.
const LINKS_MAX: usize = 40;

/// What is to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coming<'n> {
    /// A file of this name.
    File(&'n OsStr),
    /// A directory of this name.
    Directory(&'n OsStr),
    /// What is in a directory: it was typed as `DIR/.`.
    Contents,
    /// An archive of the user's.
    Archive,
}

impl Coming<'_> {
    /// Whether a name can be given to it.
    fn is_named(self) -> bool {
        self != Self::Archive
    }
}

/// Where it goes. The top of the stream is what is unpacked as this.
#[derive(Debug)]
pub enum Place {
    /// Into a directory that is there, whose own attributes stay.
    Into(Root),
    /// Under a name in a directory.
    Name {
        /// The directory.
        parent: OwnedFd,
        /// The name.
        name: Vec<u8>,
        /// The directory of that name, once it is there.
        root: Option<Root>,
    },
}

impl Place {
    /// Finds where `coming` goes if a user has typed `path` for it.
    ///
    /// ```text
    /// path is ↓   a file           a directory     DIR/.            an archive
    /// a directory in it            in it           into it          into it
    /// a file      in its place     refused         refused          refused
    /// not there   under that name  under that name under that name  refused
    /// ```
    /// What is not there must not end in a slash, and its parent must be there.
    pub fn find(root: &Root, path: &Path, coming: Coming<'_>) -> Result<Self, Error> {
        let failed = |error: Errno| Error::file("find", path)(error.into());
        let there = match root.at(Typed::new(path).bytes(), OFlags::PATH) {
            Ok(there) => there,
            Err(Errno::NOENT) if Typed::new(path).is_directory() || !coming.is_named() => {
                return Err(failed(Errno::NOENT));
            }
            Err(Errno::NOENT) => return Self::named(root, path),
            Err(error) => return Err(failed(error)),
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&there).map_err(failed)?.st_mode) {
            FileType::Directory => Ok(match coming {
                Coming::File(name) | Coming::Directory(name) => {
                    Self::Name { parent: there, name: name.as_bytes().to_vec(), root: None }
                }
                Coming::Contents | Coming::Archive => Self::Into(Root::of(there)),
            }),
            FileType::RegularFile if matches!(coming, Coming::File(_)) => Self::named(root, path),
            FileType::RegularFile => Err(Error::conflict(Typed::new(path).bytes(), "a directory", "a file")),
            _ => Err(Error::Neither(path.to_owned())),
        }
    }

    /// A name that is not a directory's. Links are followed, also to what is not there yet.
    fn named(root: &Root, path: &Path) -> Result<Self, Error> {
        let failed = |error: Errno| Error::file("find the directory of", path)(error.into());
        let mut path = path.to_owned();
        for _ in 0..LINKS_MAX {
            let typed = Typed::new(&path);
            let name = typed.name().ok_or_else(|| failed(Errno::NOENT))?.as_bytes().to_vec();
            let above = typed.parent();
            let parent = root.at(above.as_os_str().as_bytes(), OFlags::PATH | OFlags::DIRECTORY).map_err(failed)?;
            match rustix::fs::readlinkat(&parent, name.as_slice(), Vec::new()) {
                Ok(target) => path = above.join(OsStr::from_bytes(target.to_bytes())),
                Err(Errno::INVAL | Errno::NOENT) => return Ok(Self::Name { parent, name, root: None }),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(Errno::LOOP))
    }

    /// Where what is below the top goes. None: nothing can be below it.
    pub(crate) fn root(&self) -> Option<&Root> {
        match self {
            Self::Into(root) => Some(root),
            Self::Name { root, .. } => root.as_ref(),
        }
    }
}
