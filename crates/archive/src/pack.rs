//! Packs a file, or a directory with all that is below it. Links are packed as links; nothing is followed.

use crate::direct::{self, Buffer};
use crate::root::{Root, Typed, is_directory};
use crate::sparse::{PIECES_MAX, Sparse};
use crate::{Attributes, Entry, EntryKind, Error, Timestamp, Writer};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Directories in directories, at most: each takes a descriptor while it is packed.
const DEPTH_MAX: usize = 512;
/// The most files with several names that are remembered.
const LINKS_MAX: usize = 1 << 20;
/// How much of a file is read at once, through the page cache.
const PIECE: usize = 256 << 10;
/// Smaller files may well be in the page cache.
const LARGE: u64 = 16 << 20;
/// The extended attributes that travel.
const XATTRS: [&[u8]; 2] = [b"user.", b"security.capability"];

/// Whether the holes of files are told of, or are zeros as all else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// For readers that are known to understand it.
    Told,
    /// For everyone.
    Filled,
}

/// What is to be packed.
#[derive(Debug)]
pub struct Packable {
    fd: OwnedFd,
    stat: Stat,
    reading: Reading,
}

/// How large files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Cached,
    Direct,
}

impl Packable {
    /// Finds a path below a root, links of it followed. Only files and directories can be had.
    pub fn find(root: &Root, path: &Path) -> Result<Self, Error> {
        let failed = |error: Errno| Error::file("find", path)(error.into());
        // Without waiting at a pipe that nobody writes to.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let looked = root.at(Typed::new(path).bytes(), OFlags::PATH).map_err(failed)?;
        let stat = rustix::fs::fstat(&looked).map_err(failed)?;
        if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
            return Err(Error::Neither(path.to_owned()));
        }
        let fd = root.at(Typed::new(path).bytes(), flags).map_err(failed)?;
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        Ok(Self { fd, stat, reading: Reading::Cached })
    }

    /// Has large files read past the page cache, where that can be: in a guest it costs more than its disk.
    pub fn past_the_cache(self) -> Self {
        Self { reading: Reading::Direct, ..self }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        is_directory(&self.stat)
    }

    /// Whose it is, user and group, and its permissions.
    pub fn owner_and_mode(&self) -> (u32, u32, u32) {
        (self.stat.st_uid, self.stat.st_gid, self.stat.st_mode & 0o7777)
    }

    /// Packs it under this name. Of a directory without a name only what is in it is packed.
    pub fn pack<W: Write>(self, name: &OsStr, holes: Holes, out: W) -> Result<W, Error> {
        let name = name.as_encoded_bytes().to_vec();
        let (writer, reading) = (Writer::new(out), self.reading);
        let mut packing = Packing { writer, holes, reading, links: HashMap::new(), buffer: Buffer::new() };
        if is_directory(&self.stat) {
            packing.tree(self.fd, self.stat, name)?;
        } else {
            packing.file(File::from(self.fd), name)?;
        }
        packing.writer.finish().map_err(Error::Write)
    }
}

/// A packing under way.
struct Packing<W> {
    writer: Writer<W>,
    holes: Holes,
    reading: Reading,
    /// The name under which a file with several was packed.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Buffer,
}

/// A directory whose entries are being packed.
struct Level {
    entries: Dir,
    path: Vec<u8>,
}

impl<W: Write> Packing<W> {
    fn tree(&mut self, dir: OwnedFd, stat: Stat, path: Vec<u8>) -> Result<(), Error> {
        let mut levels = vec![self.enter(dir, &stat, path)?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.read() else {
                levels.pop();
                continue;
            };
            let failed = |error: Errno| Error::named("read", &level.path, error);
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let dir = level.entries.fd().map_err(failed)?.try_clone_to_owned().map_err(Error::Read)?;
            let slash = if level.path.is_empty() { &b""[..] } else { b"/" };
            let path = [level.path.as_slice(), slash, name.to_bytes()].concat();
            let Some((dir, stat)) = self.node(dir, name, &path)? else { continue };
            if levels.len() == DEPTH_MAX {
                return Err(Error::hostile(&path, format!("it is in more than {DEPTH_MAX} directories")));
            }
            levels.push(self.enter(dir, &stat, path)?);
        }
        Ok(())
    }

    fn enter(&mut self, dir: OwnedFd, stat: &Stat, path: Vec<u8>) -> Result<Level, Error> {
        if !path.is_empty() {
            let name = [path.as_slice(), b"/"].concat();
            self.head(&Entry::of(EntryKind::Directory, name, attributes(stat, xattrs(&dir))))?;
        }
        let entries = Dir::new(dir).map_err(|error| Error::named("read", &path, error))?;
        Ok(Level { entries, path })
    }

    /// Packs what has this name; of a directory only says what it is. What is gone again is nothing.
    fn node(&mut self, dir: OwnedFd, name: &CStr, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Error> {
        let failed = |error: Errno| Error::named("read", path, error);
        let stat = match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            found => found.map_err(failed)?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory | FileType::RegularFile => return self.openable(dir, name, path),
            FileType::Symlink => EntryKind::Symlink,
            FileType::CharacterDevice => EntryKind::CharDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            // Archives have no sockets: they are nothing without who listens.
            _ => return Ok(None),
        };
        let mut entry = Entry::of(kind, path.to_vec(), attributes(&stat, BTreeMap::new()));
        if kind == EntryKind::Symlink {
            entry.target = rustix::fs::readlinkat(&dir, name, Vec::new()).map_err(failed)?.into_bytes();
        } else {
            entry.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        }
        self.head(&entry)?;
        Ok(None)
    }

    fn openable(&mut self, dir: OwnedFd, name: &CStr, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Error> {
        let failed = |error: Errno| Error::named("read", path, error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok(Some((fd, stat))),
            FileType::RegularFile => self.file(File::from(fd), path.to_vec()).map(|()| None),
            // Another meanwhile.
            _ => Ok(None),
        }
    }

    fn file(&mut self, file: File, path: Vec<u8>) -> Result<(), Error> {
        let stat = rustix::fs::fstat(&file).map_err(|error| Error::named("read", &path, error))?;
        let mut entry = Entry::of(EntryKind::File, path, attributes(&stat, xattrs(&file)));
        if stat.st_nlink > 1 && !self.is_first_name(&stat, &mut entry) {
            return self.head(&entry);
        }
        entry.size = stat.st_size.unsigned_abs();
        entry.sparse = if self.holes == Holes::Told { sparse(&file, &stat) } else { None };
        self.head(&entry)?;
        let whole = [(0, entry.size)];
        let pieces = entry.sparse.as_ref().map_or(&whole[..], Sparse::pieces);
        for (offset, length) in pieces {
            self.bytes(&file, *offset, *length, &entry.name)?;
        }
        self.writer.pad(pieces.iter().map(|(_, length)| length).sum()).map_err(Error::Write)
    }

    /// Whether a file is packed for the first time; else its entry becomes a link to the name that it has.
    fn is_first_name(&mut self, stat: &Stat, entry: &mut Entry) -> bool {
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&identity) {
            (entry.kind, entry.target) = (EntryKind::HardLink, first.clone());
            return false;
        }
        if self.links.len() < LINKS_MAX {
            self.links.insert(identity, entry.name.clone());
        }
        true
    }

    /// Packs bytes of a file. One that has become shorter meanwhile ends in zeros: its size was told.
    fn bytes(&mut self, file: &File, offset: u64, length: u64, path: &[u8]) -> Result<(), Error> {
        let is_large = offset == 0 && length >= LARGE;
        let mut direct = is_large && self.reading == Reading::Direct && direct::begin(file);
        let mut done = 0;
        while done < length {
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            // Past the cache whole blocks are read: what is behind the end is not there.
            let wanted = if direct { direct::PIECE } else { PIECE.min(left) };
            let read = match file.read_at(&mut self.buffer.bytes()[..wanted], offset + done) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // This file system cannot, or the file has ended within a block meanwhile.
                Err(error) if direct && error.kind() == io::ErrorKind::InvalidInput => {
                    direct = false;
                    direct::end(file).map_err(|error| Error::of_name("read", path, error))?;
                    continue;
                }
                read => read.map_err(|error| Error::of_name("read", path, error))?.min(left),
            };
            if read == 0 {
                io::copy(&mut io::repeat(0).take(length - done), &mut Data(&mut self.writer)).map_err(Error::Write)?;
                break;
            }
            self.writer.data(&self.buffer.bytes()[..read]).map_err(Error::Write)?;
            done += read as u64;
        }
        if direct { direct::end(file).map_err(|error| Error::of_name("read", path, error)) } else { Ok(()) }
    }

    fn head(&mut self, entry: &Entry) -> Result<(), Error> {
        self.writer.head(entry).map_err(Error::Write)
    }
}

/// The bytes of an entry as something to write to.
struct Data<'w, W>(&'w mut Writer<W>);

impl<W: Write> Write for Data<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.data(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn attributes(stat: &Stat, xattrs: BTreeMap<Vec<u8>, Vec<u8>>) -> Attributes {
    Attributes {
        mode: (stat.st_mode & 0o7777) as u16,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 },
        xattrs,
    }
}

/// The extended attributes that travel; none where the file system has none.
fn xattrs(file: impl AsFd) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::flistxattr(&file, &mut names[..]).unwrap_or(0);
    let travels = |name: &&[u8]| !name.is_empty() && XATTRS.iter().any(|known| name.starts_with(known));
    let value = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::fgetxattr(&file, name, &mut value[..]).ok()?;
        value.truncate(length);
        Some((name.to_vec(), value))
    };
    names[..length].split(|byte| *byte == 0).filter(travels).filter_map(value).collect()
}

/// Where a file has data, if it has holes.
fn sparse(file: &File, stat: &Stat) -> Option<Sparse> {
    let size = stat.st_size.unsigned_abs();
    if stat.st_blocks.unsigned_abs() * 512 >= size {
        return None;
    }
    let (mut pieces, mut end) = (Vec::new(), 0);
    while end < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            // Data that has come behind the size that was told is none of this file.
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        end = rustix::fs::seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        pieces.push((start, end - start));
        if pieces.len() > PIECES_MAX {
            return None;
        }
    }
    // GNU tar takes the end of the last piece for the file's.
    if end < size {
        pieces.push((size, 0));
    }
    let stored = pieces.iter().map(|(_, length)| length).sum();
    Sparse::new(size, pieces, stored)
}
