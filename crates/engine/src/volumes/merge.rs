//! The three-way merge of a view into the directory that it is a view of. Blocks; knows files only.
//!
//! Paths come from a guest: none leads out of the directory, and no link of the directory is followed.

use super::tree::{Tree, is, is_barred, is_directory};
use fcvm_archive::{Conflict as Clash, Holes, Limits, Manner, Owner, Packable, Place, Root, Trust, Writing};
use fcvm_image::changes::{Change, ChangedFile};
use fcvm_sys::stamp::changed_ns;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Uid};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A file that both sides have touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its path in the volume.
    pub path: PathBuf,
    /// What the host has done.
    pub host: &'static str,
}

/// What the host's files were when the view was made.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// Files with a later change time have changed.
    pub(super) since_ns: i64,
    /// But for those that were touched by an earlier merge: the change times that they have from it.
    pub(super) applied: BTreeMap<PathBuf, i64>,
}

/// What a merge has done.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) changes: Vec<ChangedFile>,
    pub(super) applied: BTreeMap<PathBuf, i64>,
}

/// A merge under way.
#[derive(Debug)]
pub(super) struct Merging {
    target: Tree,
    staged: Tree,
    /// Where `staged` is.
    place: PathBuf,
    base: Base,
}

/// What is to be done to a path of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Delete,
    /// What the guest has there.
    Put,
    Refuse(&'static str),
}

const CHANGED: &str = "changed";
const DELETED: &str = "deleted";
const MADE: &str = "made something else of the directory of";

impl Merging {
    /// Begins to merge what lies in `staged` into `target`.
    pub(super) fn begin(target: &Path, staged: &Path, base: Base) -> io::Result<Self> {
        Ok(Self { target: Tree::open(target)?, staged: Tree::open(staged)?, place: staged.to_owned(), base })
    }

    /// Merges all changes, or lists what both sides have touched.
    pub(super) fn merge(mut self, found: &[ChangedFile]) -> io::Result<Result<Merged, Vec<Conflict>>> {
        let mut named = BTreeMap::new();
        for file in found {
            let path = normal(&file.path).ok_or_else(|| io::Error::other("the guest named no path"))?;
            named.insert(path, file.change);
        }
        let (mut wanted, mut conflicts, mut made) = (Vec::new(), Vec::new(), HashSet::new());
        for (path, change) in named {
            match self.judge(&path, change, &mut made)? {
                Verdict::Nothing => {}
                Verdict::Refuse(host) => conflicts.push(Conflict { path: Path::new("/").join(path), host }),
                verdict => wanted.push((path, verdict)),
            }
        }
        if !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        // Directories before what is in them, after all that makes way.
        wanted.sort_by(|a, b| (a.1 == Verdict::Put, &a.0).cmp(&(b.1 == Verdict::Put, &b.0)));
        let mut changes = Vec::new();
        for (path, verdict) in wanted {
            // As it is for the host: the guest may not have looked since the last time.
            let change = match verdict {
                Verdict::Delete => Change::Deleted,
                _ if self.target.look(&path)?.is_some() => Change::Changed,
                _ => Change::Added,
            };
            match change {
                Change::Deleted => self.target.delete(&path)?,
                _ => self.put(&path)?,
            }
            self.remember(&path)?;
            changes.push(ChangedFile { path: Path::new("/").join(path), change });
        }
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Ok(Merged { changes, applied: self.base.applied }))
    }

    /// Says what is to be done. Directories that are to be made come before what is in them, and go into `made`.
    fn judge(&self, path: &Path, change: Change, made: &mut HashSet<PathBuf>) -> io::Result<Verdict> {
        // Devices and sockets are nothing for the host.
        let staged = match self.staged.look(path) {
            Err(error) if is_barred(&error) => None,
            staged => staged?,
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let (here, verdict) = match (made.contains(parent), &staged) {
            (true, None) => return Ok(Verdict::Nothing),
            (true, Some(_)) => (None, Verdict::Put),
            (false, _) => match self.target.look(path) {
                Err(error) if is_barred(&error) => return Ok(Verdict::Refuse(MADE)),
                here => {
                    let here = here?;
                    (here, self.compare(path, change, (here.as_ref(), staged.as_ref()))?)
                }
            },
        };
        let is_directory_here = here.as_ref().is_some_and(is_directory);
        if verdict == Verdict::Put && !is_directory_here && staged.as_ref().is_some_and(is_directory) {
            made.insert(path.to_owned());
        }
        Ok(verdict)
    }

    /// What both sides have at a path, held against each other.
    fn compare(
        &self,
        path: &Path,
        change: Change,
        (here, staged): (Option<&Stat>, Option<&Stat>),
    ) -> io::Result<Verdict> {
        let parent = path.parent().unwrap_or(Path::new(""));
        match (here, staged) {
            (None, _) if change == Change::Deleted => Ok(Verdict::Nothing),
            (Some(_), _) if change == Change::Deleted => {
                Ok(if self.is_touched_below(path)? { Verdict::Refuse(CHANGED) } else { Verdict::Delete })
            }
            (_, None) => Ok(Verdict::Nothing),
            (None, Some(_)) if change == Change::Changed || self.target.look(parent)?.is_none() => {
                Ok(Verdict::Refuse(DELETED))
            }
            (None, Some(_)) => Ok(Verdict::Put),
            (Some(here), Some(staged)) if is_directory(staged) && is_directory(here) => {
                let rights = |stat: &Stat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
                Ok(if rights(here) == rights(staged) { Verdict::Nothing } else { Verdict::Put })
            }
            (Some(here), Some(staged)) if self.is_same(path, here, staged)? => Ok(Verdict::Nothing),
            (Some(_), Some(_)) if self.is_touched_below(path)? => Ok(Verdict::Refuse(CHANGED)),
            (Some(_), Some(_)) => Ok(Verdict::Put),
        }
    }

    /// Whether the host has touched a file, or anything in a directory.
    fn is_touched_below(&self, path: &Path) -> io::Result<bool> {
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            if self.is_touched(&path)? {
                return Ok(true);
            }
            pending.extend(self.target.entries(&path)?.into_iter().map(|name| path.join(name)));
        }
        Ok(false)
    }

    fn is_touched(&self, path: &Path) -> io::Result<bool> {
        let Some(stat) = self.target.look(path)? else { return Ok(true) };
        let changed = changed_ns(&stat);
        Ok(changed > self.base.since_ns && self.base.applied.get(path) != Some(&changed))
    }

    /// Whether both sides have the same file.
    fn is_same(&self, path: &Path, here: &Stat, staged: &Stat) -> io::Result<bool> {
        if (here.st_mode, here.st_size) != (staged.st_mode, staged.st_size) {
            return Ok(false);
        }
        match FileType::from_raw_mode(here.st_mode) {
            FileType::Symlink => Ok(self.target.link(path)? == self.staged.link(path)?),
            FileType::RegularFile => is_equal(self.target.file(path)?, self.staged.file(path)?),
            _ => Ok(false),
        }
    }

    /// Puts what the guest has into its place: a file with one rename.
    fn put(&self, path: &Path) -> io::Result<()> {
        let staged = self.staged.look(path)?.ok_or(io::ErrorKind::NotFound)?;
        if self.target.look(path)?.is_some_and(|here| is_directory(&here) != is_directory(&staged)) {
            self.target.delete(path)?;
        }
        let (parent, name) = self.target.parent(path)?;
        if is_directory(&staged) {
            match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            own(&parent, name, &staged)?;
            let mode = Mode::from_raw_mode(staged.st_mode & 0o7777);
            return Ok(rustix::fs::chmodat(&parent, name, mode, AtFlags::empty())?);
        }
        let new = OsString::from(format!(".fcvm-{}", std::process::id()));
        let made = if is(&staged, FileType::Symlink) {
            let link = self.staged.link(path)?;
            rustix::fs::symlinkat(link, &parent, &new)
                .map_err(io::Error::from)
                .and_then(|()| own(&parent, &new, &staged))
        } else {
            self.copy(path, parent.try_clone()?, &new)
        };
        made.and_then(|()| Ok(rustix::fs::renameat(&parent, &new, &parent, name)?)).inspect_err(|_| {
            let _it_may_not_be_there = rustix::fs::unlinkat(&parent, &new, AtFlags::empty());
        })
    }

    fn copy(&self, path: &Path, parent: OwnedFd, name: &OsStr) -> io::Result<()> {
        let packable = Packable::find(&Root::open(&self.place)?, path).map_err(io::Error::other)?;
        let (reader, writer) = io::pipe()?;
        let packing = std::thread::spawn(move || packable.pack(OsStr::new("."), Holes::Told, writer).map(drop));
        let owner = if fcvm_sys::process::runs_as_root() { Owner::Told } else { Owner::Own };
        let limits = Limits { entries: 1, bytes: u64::MAX };
        let (conflict, trust, writing) = (Clash::Replaced, Trust::None, Writing::Cached);
        let place = Place::Name { parent, name: name.as_bytes().to_vec(), root: None };
        let unpacked = fcvm_archive::unpack(reader, place, &Manner { owner, conflict, trust, limits, writing });
        let packed = packing.join().map_err(|_| io::Error::other("a thread died"))?;
        unpacked.map(drop).and(packed).map_err(io::Error::other)
    }

    /// Writes down the times that a path and its directory have from this merge.
    fn remember(&mut self, path: &Path) -> io::Result<()> {
        for path in path.ancestors().take(2) {
            match self.target.look(path)? {
                Some(stat) => drop(self.base.applied.insert(path.to_owned(), changed_ns(&stat))),
                None => drop(self.base.applied.remove(path)),
            }
        }
        Ok(())
    }
}

/// The guest's owner where whoever applies can give files away.
fn own(parent: impl AsFd, name: &OsStr, like: &Stat) -> io::Result<()> {
    if !fcvm_sys::process::runs_as_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    Ok(rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A path of a guest without what would lead elsewhere.
fn normal(path: &Path) -> Option<PathBuf> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    (is_plain && !relative.as_os_str().is_empty()).then(|| relative.components().collect())
}

fn is_equal(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..read]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            filled => filled?,
        }
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
