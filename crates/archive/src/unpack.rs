//! Unpacks a tar stream below a directory. Whatever the stream says, nothing outside of that is touched.
//!
//! Its first entry may be the directory itself, or be the only one, a file: see [`Place`]. Links are made as the stream has
//! them and followed within the directory, as if that were the root of everything.

mod contents;
mod manner;

pub use manner::{Conflict, Limits, Manner, Owner, Trust, Writing};

use crate::direct::Buffer;
use crate::place::Place;
use crate::root::{Root, is_directory, look};
use crate::{Attributes, Entries, Entry, EntryKind, Error, Stream, Timestamp};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What the names of directories may take until all is unpacked and they are done.
const DIRECTORIES_MAX: usize = 64 << 20;

/// What came of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries that were left out: devices of who may not make them.
    pub left_out: u64,
}

/// Unpacks a stream to its end into a place.
pub fn unpack(stream: impl Read, place: Place, manner: &Manner) -> Result<Unpacked, Error> {
    let mut entries = Entries::new(Stream(stream));
    let mut unpacking = Unpacking {
        place,
        manner: *manner,
        parent: None,
        directories: Vec::new(),
        directories_bytes: 0,
        left: manner.limits,
        unpacked: Unpacked::default(),
        buffer: Buffer::new(),
    };
    while let Some(entry) = entries.next_entry()? {
        unpacking.entry(&entry, &mut entries)?;
    }
    entries.drain()?;
    unpacking.finish()
}

struct Unpacking {
    place: Place,
    manner: Manner,
    /// The directory that was looked up last: entries come in the order of directories.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Directories get their attributes at the end: until then they are written to.
    directories: Vec<(Vec<u8>, Attributes)>,
    directories_bytes: usize,
    left: Limits,
    unpacked: Unpacked,
    buffer: Buffer,
}

impl Unpacking {
    fn entry<R: Read>(&mut self, entry: &Entry, entries: &mut Entries<Stream<R>>) -> Result<(), Error> {
        let too_much = || Error::hostile(&entry.name, "more comes than there can be");
        self.left.entries = self.left.entries.checked_sub(1).ok_or_else(too_much)?;
        let path = components(&entry.name)?;
        let Some((name, parents)) = path.split_last() else { return self.top(entry, entries) };
        let Some(root) = self.place.root() else {
            return Err(Error::hostile(&entry.name, "it is below what is no directory"));
        };
        let root = root.dir().try_clone_to_owned().map_err(Error::Read)?;
        let parent = self.parent(&Root::of(root), &parents.join(&b'/'), &entry.name)?;
        let failed = |error: Errno| Error::named("write", &entry.name, error);
        match entry.kind {
            EntryKind::Directory => self.directory(parent.as_fd(), name, entry, &path.join(&b'/')),
            EntryKind::File => self.file(parent.as_fd(), name, entry, entries),
            EntryKind::HardLink => self.link(parent.as_fd(), name, entry),
            EntryKind::Symlink => {
                self.make_way(parent.as_fd(), name, entry)?;
                rustix::fs::symlinkat(entry.target.as_slice(), &parent, *name).map_err(failed)?;
                self.name_attributes(parent.as_fd(), name, entry)
            }
            EntryKind::CharDevice | EntryKind::BlockDevice if self.manner.trust == Trust::None => {
                self.unpacked.left_out += 1;
                Ok(())
            }
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.make_way(parent.as_fd(), name, entry)?;
                let kind = match entry.kind {
                    EntryKind::CharDevice => rustix::fs::FileType::CharacterDevice,
                    EntryKind::BlockDevice => rustix::fs::FileType::BlockDevice,
                    _ => rustix::fs::FileType::Fifo,
                };
                let (major, minor) = entry.device;
                let mode = Mode::from_raw_mode(self.mode(&entry.attributes));
                rustix::fs::mknodat(&parent, *name, kind, mode, rustix::fs::makedev(major, minor)).map_err(failed)?;
                self.name_attributes(parent.as_fd(), name, entry)
            }
        }
    }

    /// The entry of the place itself.
    fn top<R: Read>(&mut self, entry: &Entry, entries: &mut Entries<Stream<R>>) -> Result<(), Error> {
        let Place::Name { parent, name, root } = &mut self.place else { return Ok(()) };
        let (dir, name) = (parent.try_clone().map_err(Error::Read)?, name.clone());
        match entry.kind {
            EntryKind::File => {
                *root = None;
                self.file(dir.as_fd(), &name, entry, entries)
            }
            EntryKind::Directory => {
                self.make_directory(dir.as_fd(), &name, entry)?;
                let failed = |error: Errno| Error::named("open", &name, error);
                // As it was made, or was there: a link that was there is followed no further than it was looked at.
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = rustix::fs::openat(&dir, name.as_slice(), flags, Mode::empty()).map_err(failed)?;
                if let Place::Name { root, .. } = &mut self.place {
                    *root = Some(Root::of(made));
                }
                self.remember(b"".to_vec(), &entry.attributes)
            }
            _ => Err(Error::hostile(&entry.name, "it is neither a file nor a directory")),
        }
    }

    fn parent(&mut self, root: &Root, path: &[u8], entry: &[u8]) -> Result<OwnedFd, Error> {
        let failed = |error: Errno| Error::named("find the directory of", entry, error);
        if let Some((known, dir)) = &self.parent
            && known == path
        {
            return dir.try_clone().map_err(Error::Read);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let dir = match root.at(path, flags) {
            Err(Errno::NOENT) => {
                make_parents(root, path).map_err(failed)?;
                root.at(path, flags).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        self.parent = Some((path.to_vec(), dir.try_clone().map_err(Error::Read)?));
        Ok(dir)
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry, path: &[u8]) -> Result<(), Error> {
        self.make_directory(parent, name, entry)?;
        self.remember(path.to_vec(), &entry.attributes)
    }

    fn make_directory(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let failed = |error: Errno| Error::named("make the directory", &entry.name, error);
        let there = look(parent, name).map_err(failed)?;
        if there.as_ref().is_some_and(is_directory) {
            return Ok(());
        }
        if let Some(there) = there {
            // A link to a directory below the same root stays what it is.
            let is_link = rustix::fs::FileType::from_raw_mode(there.st_mode) == rustix::fs::FileType::Symlink;
            if is_link && self.place.root().is_some_and(|root| leads_to_directory(root, &entry.name)) {
                return Ok(());
            }
            if self.manner.conflict == Conflict::Refused {
                return Err(Error::conflict(&entry.name, "a directory", "a file"));
            }
            rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(failed)?;
        }
        rustix::fs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
        let (uid, gid) = self.owner(&entry.attributes);
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Notes what a directory is to be at the end.
    fn remember(&mut self, path: Vec<u8>, attributes: &Attributes) -> Result<(), Error> {
        self.directories_bytes += path.len() + size_of::<Attributes>();
        if self.directories_bytes > DIRECTORIES_MAX {
            return Err(Error::hostile(&path, "there are more directories than can be kept in mind"));
        }
        let mut attributes = attributes.clone();
        attributes.xattrs.clear();
        self.directories.push((path, attributes));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        entries: &mut Entries<Stream<R>>,
    ) -> Result<(), Error> {
        let failed = |error: Errno| Error::named("write", &entry.name, error);
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match self.make_way(parent, name, entry)? {
            Way::Free => {
                let mode = Mode::RUSR | Mode::WUSR;
                rustix::fs::openat(parent, name, flags | OFlags::CREATE | OFlags::EXCL, mode)
            }
            Way::Fixed => rustix::fs::openat(parent, name, flags | OFlags::TRUNC, Mode::empty()),
        };
        let file = File::from(opened.map_err(failed)?);
        self.contents(&file, entry, entries)?;
        let (uid, gid) = self.owner(&entry.attributes);
        rustix::fs::fchown(&file, uid, gid).map_err(failed)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.mode(&entry.attributes))).map_err(failed)?;
        if self.manner.trust == Trust::Full {
            for (name, value) in &entry.attributes.xattrs {
                rustix::fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()).map_err(failed)?;
            }
        }
        rustix::fs::futimens(&file, &times(entry.attributes.mtime)).map_err(failed)
    }

    fn link(&mut self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let refused = || Error::hostile(&entry.name, "a hard link to what is not there");
        let target = components(&entry.target)?;
        let (first, parents) = target.split_last().ok_or_else(refused)?;
        let root = self.place.root().ok_or_else(refused)?;
        let dir = root.at(&parents.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY).map_err(|_| refused())?;
        let failed = |error: Errno| Error::named("link", &entry.name, error);
        let there = look(&dir, first).map_err(failed)?.ok_or_else(refused)?;
        // The same name again.
        if let Some(old) = look(parent, name).map_err(failed)?
            && (old.st_dev, old.st_ino) == (there.st_dev, there.st_ino)
        {
            return Ok(());
        }
        self.make_way(parent, name, entry)?;
        rustix::fs::linkat(&dir, *first, parent, name, AtFlags::empty()).map_err(failed)
    }

    /// Takes away what has a name that something else than a directory is to have.
    fn make_way(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<Way, Error> {
        let failed = |error: Errno| Error::named("replace", &entry.name, error);
        let Some(there) = look(parent, name).map_err(failed)? else { return Ok(Way::Free) };
        if is_directory(&there) {
            if self.manner.conflict == Conflict::Refused {
                return Err(Error::conflict(&entry.name, "a file", "a directory"));
            }
            return remove_tree(parent, name).map_err(failed).map(|()| Way::Free);
        }
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) => Ok(Way::Free),
            // Something is mounted there, as on a container's /etc/hosts.
            Err(Errno::BUSY) if entry.kind == EntryKind::File => Ok(Way::Fixed),
            Err(error) => Err(failed(error)),
        }
    }

    /// The attributes of what cannot be opened.
    fn name_attributes(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Error> {
        let failed = |error: Errno| Error::named("set the owner of", &entry.name, error);
        let (uid, gid) = self.owner(&entry.attributes);
        rustix::fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let times = times(entry.attributes.mtime);
        rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Completes the directories, the inner ones first.
    fn finish(mut self) -> Result<Unpacked, Error> {
        let Some(root) = self.place.root() else { return Ok(self.unpacked) };
        let root = Root::of(root.dir().try_clone_to_owned().map_err(Error::Read)?);
        for (path, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            let failed = |error: Errno| Error::named("complete the directory", &path, error);
            let dir = match root.at(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                // Replaced by a later entry, or not ours to change.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
                opened => opened.map_err(failed)?,
            };
            let mode = Mode::from_raw_mode(self.mode(&attributes));
            rustix::fs::fchmod(&dir, mode).map_err(failed)?;
            rustix::fs::futimens(&dir, &times(attributes.mtime)).map_err(failed)?;
        }
        Ok(self.unpacked)
    }

    fn owner(&self, attributes: &Attributes) -> (Option<Uid>, Option<Gid>) {
        match self.manner.owner {
            Owner::Told => (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid))),
            Owner::Given(uid, gid) => (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
            Owner::Own => (None, None),
        }
    }

    fn mode(&self, attributes: &Attributes) -> u32 {
        let kept = if self.manner.trust == Trust::Full { 0o7777 } else { 0o1777 };
        u32::from(attributes.mode) & kept
    }
}

/// How a name can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// There is nothing of that name.
    Free,
    /// What has the name cannot be taken away, but written over.
    Fixed,
}

/// Splits a name: made relative, `.` dropped. One that leads up is refused.
fn components(name: &[u8]) -> Result<Vec<&[u8]>, Error> {
    if name.contains(&0) {
        return Err(Error::hostile(name, "a zero byte in its name"));
    }
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(Error::hostile(name, "it leads out of its directory"));
    }
    Ok(parts)
}

fn leads_to_directory(root: &Root, name: &[u8]) -> bool {
    root.at(name, OFlags::PATH | OFlags::DIRECTORY).is_ok()
}

/// Makes the directories of a path that are not there.
fn make_parents(root: &Root, path: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).chain([path.len()]) {
        let (above, name) = match path[..end].iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..end]),
            None => (&b""[..], &path[..end]),
        };
        match rustix::fs::mkdirat(root.at(above, flags)?, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a directory with all that is below it; links are removed, not followed.
fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::path::PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
    std::fs::remove_dir_all(path.join(std::ffi::OsStr::from_bytes(name)))
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn times(mtime: Timestamp) -> Timestamps {
    let modified = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: modified, last_modification: modified }
}
