//! `cp`: files between a VM and the host, or between two VMs, as tar streams.
//!
//! Both ends follow the same rules (the `archive` room). What a VM sends is unpacked on the host by a name that the user has
//! typed, or below a directory that the user has typed: the guest chooses neither.

mod streams;

use self::streams::{Packed, Unpacking, first, joined, pass_on, write_out};
use crate::commit::Meanwhile;
use crate::keeper::Keepers;
use crate::{Engine, Error};
use fcvm_archive::{Coming, Conflict, Holes, Limits, Manner, Owner, Packable, Place, Root, Trust, Writing};
use fcvm_link::blocking;
use fcvm_proto::files::{self, Found, Ownership, Pack, Tree, Unpack};
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

/// Where files come from.
pub enum Source {
    /// A VM's container.
    Vm(VmPath),
    /// The host.
    Host(PathBuf),
    /// A tar stream.
    Archive(Box<dyn Read + Send>),
}

/// Where files go.
pub enum Target {
    /// A VM's container.
    Vm(VmPath),
    /// The host.
    Host(PathBuf),
    /// A tar stream.
    Archive(Box<dyn Write + Send>),
}

/// A path in a VM's container, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmPath {
    /// The VM.
    pub vm: String,
    /// The path, from the container's root.
    pub path: String,
}

/// How files are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyManner {
    /// Who owns them in a container.
    pub owner: Ownership,
    /// What becomes of a directory in the place of a file, and the other way.
    pub conflict: Conflict,
}

/// What came of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries that were left out: devices, which nobody may make on the host.
    pub left_out: u64,
}

/// The name of the top in a stream between two ends of ours; the target has its own name for it.
const TOP: &str = ".";
/// More entries than a disk of a VM has inodes.
const ENTRIES_MAX: u64 = 16 << 20;

impl Engine {
    /// Copies files.
    pub async fn copy(&self, from: Source, to: Target, manner: CopyManner) -> Result<Copied, Error> {
        let vms: Vec<&str> = [from.vm(), to.vm()].into_iter().flatten().collect();
        if vms.is_empty() {
            return Err(Error::NoVmToCopy);
        }
        let keepers = Keepers::of(self, &vms).await?;
        let copied = self.copy_between(from, to, manner, &keepers).await;
        // What was copied is on the disk of a VM that does not run only after this.
        let ended = keepers.end().await;
        copied.and_then(|copied| ended.map(|()| copied))
    }

    async fn copy_between(
        &self,
        from: Source,
        to: Target,
        manner: CopyManner,
        keepers: &Keepers,
    ) -> Result<Copied, Error> {
        match (from, to) {
            (Source::Vm(from), Target::Host(to)) => self.copy_out((from, keepers), to, manner).await,
            (Source::Vm(from), Target::Archive(to)) => self.copy_to_archive((from, keepers), to).await,
            (Source::Vm(from), Target::Vm(to)) => self.copy_over(from, to, manner, keepers).await,
            (Source::Host(from), Target::Vm(to)) => self.copy_in(from, (to, keepers), manner).await,
            (Source::Archive(from), Target::Vm(to)) => self.copy_archive_in(from, (to, keepers), manner).await,
            (Source::Host(_) | Source::Archive(_), Target::Host(_) | Target::Archive(_)) => Err(Error::NoVmToCopy),
        }
    }

    async fn copy_out(
        &self,
        (from, keepers): (VmPath, &Keepers),
        to: PathBuf,
        manner: CopyManner,
    ) -> Result<Copied, Error> {
        let limits = self.limits_of(&from.vm)?;
        let mut packed = self.pack(&from, keepers, TOP, Holes::Told).await?;
        let (feed, reader) = blocking::reader();
        let typed = typed_name(&from.path);
        let found = packed.found.clone();
        let unpacking = spawn_blocking(move || {
            let place = Place::find(&host_root()?, &absolute(&to)?, coming(&found, typed.as_deref()))?;
            let (owner, trust) = (Owner::Own, Trust::None);
            let unpacked = fcvm_archive::unpack(
                reader,
                place,
                &Manner { owner, trust, conflict: manner.conflict, limits, writing: Writing::Cached },
            )?;
            Ok(Copied { left_out: unpacked.left_out })
        });
        let heard = packed.last_word(&feed).await;
        drop(feed);
        first(joined(unpacking).await, heard)
    }

    /// Fetches what was written to a view of a volume into an empty directory.
    pub(crate) async fn fetch_view(&self, vm: &str, number: u32, into: &Path) -> Result<(), Error> {
        let keepers = Keepers::of(self, &[vm]).await?;
        let fetched = self.fetch_view_of((vm, &keepers), number, into).await;
        fetched.and(keepers.end().await)
    }

    async fn fetch_view_of(&self, (vm, keepers): (&str, &Keepers), number: u32, into: &Path) -> Result<(), Error> {
        let limits = self.limits_of(vm)?;
        let from = VmPath { vm: vm.to_owned(), path: "/".to_owned() };
        let mut packed = self.pack_tree(&from, keepers, Tree::View(number), ("", Holes::Told)).await?;
        let (feed, reader) = blocking::reader();
        let root = Root::open(into).map_err(|error| fcvm_archive::Error::Read(error.into()))?;
        let owner = if fcvm_sys::process::runs_as_root() { Owner::Told } else { Owner::Own };
        let (conflict, trust, writing) = (Conflict::Refused, Trust::None, Writing::Cached);
        let manner = Manner { owner, conflict, trust, limits, writing };
        let unpacking = spawn_blocking(move || Ok(fcvm_archive::unpack(reader, Place::Into(root), &manner).map(drop)?));
        let heard = packed.last_word(&feed).await;
        drop(feed);
        first(joined(unpacking).await, heard)
    }

    async fn copy_to_archive(
        &self,
        (from, keepers): (VmPath, &Keepers),
        to: Box<dyn Write + Send>,
    ) -> Result<Copied, Error> {
        let name = typed_name(&from.path).unwrap_or_else(|| TOP.to_owned());
        write_out(self.pack(&from, keepers, &name, Holes::Filled).await?, to).await.map(|_| Copied::default())
    }

    /// Writes all files of a VM's container, without what is mounted over them, as a tar stream.
    pub async fn export(&self, vm: &str, to: Box<dyn Write + Send>) -> Result<(), Error> {
        self.pack_root(vm, Meanwhile::Runs, to).await.map(drop)
    }

    /// Writes the same into a writer that is given back.
    pub(crate) async fn pack_root<W: Write + Send + 'static>(
        &self,
        vm: &str,
        meanwhile: Meanwhile,
        to: W,
    ) -> Result<W, Error> {
        let keepers = Keepers::of(self, &[vm]).await?;
        let still = meanwhile == Meanwhile::Stands;
        let request = Pack { path: "/".to_owned(), name: String::new(), tree: Tree::Root, holes: false, still };
        let packed = async {
            let packed = Packed::begin(keepers.keeper(self, vm)?.pack(request)?).await?;
            write_out(packed, to).await
        };
        let packed = packed.await;
        let ended = keepers.end().await;
        packed.and_then(|packed| ended.map(|()| packed))
    }

    async fn copy_over(
        &self,
        from: VmPath,
        to: VmPath,
        manner: CopyManner,
        keepers: &Keepers,
    ) -> Result<Copied, Error> {
        let mut packed = self.pack(&from, keepers, TOP, Holes::Told).await?;
        let coming = coming_of(coming(&packed.found, typed_name(&from.path).as_deref()));
        let unpacking = self.unpack(&to, keepers, coming, manner)?;
        let (feed, reader) = blocking::reader();
        let (writer, written) = blocking::writer();
        let between = spawn_blocking(move || pass_on(reader, writer));
        let heard = async {
            let heard = packed.last_word(&feed).await;
            drop(feed);
            heard
        };
        let (heard, given) = tokio::join!(heard, unpacking.give(written));
        first(joined(between).await, given.and(heard))?;
        Ok(Copied::default())
    }

    async fn copy_in(
        &self,
        from: PathBuf,
        (to, keepers): (VmPath, &Keepers),
        manner: CopyManner,
    ) -> Result<Copied, Error> {
        let typed = typed_name(&from.to_string_lossy());
        let finding = spawn_blocking(move || Ok(Packable::find(&host_root()?, &absolute(&from)?)?));
        let packable = joined(finding).await?;
        let found = if packable.is_directory() { Found::Directory } else { Found::File };
        let coming = coming_of(coming(&found, typed.as_deref()));
        let unpacking = self.unpack(&to, keepers, coming, manner)?;
        let (writer, written) = blocking::writer();
        let packing = spawn_blocking(move || Ok(packable.pack(OsStr::new(TOP), Holes::Told, writer).map(drop)?));
        let given = unpacking.give(written).await;
        first(joined(packing).await, given).map(|()| Copied::default())
    }

    async fn copy_archive_in(
        &self,
        from: Box<dyn Read + Send>,
        (to, keepers): (VmPath, &Keepers),
        manner: CopyManner,
    ) -> Result<Copied, Error> {
        let plain = joined(spawn_blocking(move || Ok(fcvm_image::decompress_archive(from)?))).await?;
        let unpacking = self.unpack(&to, keepers, files::Coming::Archive, manner)?;
        let (writer, written) = blocking::writer();
        // Not waited for: it may read from a terminal.
        let reading = spawn_blocking(move || pass_on(plain, writer));
        unpacking.give(written).await?;
        joined(reading).await.map(|()| Copied::default())
    }

    async fn pack(&self, from: &VmPath, keepers: &Keepers, name: &str, holes: Holes) -> Result<Packed, Error> {
        self.pack_tree(from, keepers, Tree::Container, (name, holes)).await
    }

    async fn pack_tree(
        &self,
        from: &VmPath,
        keepers: &Keepers,
        tree: Tree,
        (name, holes): (&str, Holes),
    ) -> Result<Packed, Error> {
        let holes = holes == Holes::Told;
        let request = Pack { path: from.path.clone(), name: name.to_owned(), tree, holes, still: false };
        Packed::begin(keepers.keeper(self, &from.vm)?.pack(request)?).await
    }

    fn unpack(
        &self,
        to: &VmPath,
        keepers: &Keepers,
        coming: files::Coming,
        manner: CopyManner,
    ) -> Result<Unpacking, Error> {
        let overwrite = manner.conflict == Conflict::Replaced;
        let request = Unpack { path: to.path.clone(), coming, owner: manner.owner, overwrite };
        Ok(Unpacking::begin(keepers.keeper(self, &to.vm)?.unpack(request)?))
    }

    /// No honest VM has more in it than its disks and its memory hold.
    fn limits_of(&self, vm: &str) -> Result<Limits, Error> {
        let dir = self.store().find_vm(vm)?;
        let record = dir.record()?;
        let images = self.images().store().list()?;
        let image = images.iter().find(|image| Some(&image.digest) == record.image_digest.as_ref());
        let image = image.and_then(|image| std::fs::metadata(&image.disk).ok()).map_or(u64::MAX, |disk| disk.len());
        let disk = std::fs::metadata(dir.scratch_disk()).map_or(u64::MAX, |disk| disk.len());
        let memory = record.spec.machine.memory.bytes();
        Ok(Limits { entries: ENTRIES_MAX, bytes: image.saturating_add(disk).saturating_add(memory) })
    }
}

/// What is to be copied, by what it is and how it was typed.
fn coming<'n>(found: &Found, typed: Option<&'n str>) -> Coming<'n> {
    match (found, typed.map(OsStr::new)) {
        (Found::Directory, Some(name)) => Coming::Directory(name),
        (Found::Directory, None) => Coming::Contents,
        (Found::File | Found::Failed(_), name) => Coming::File(name.unwrap_or(OsStr::new("file"))),
    }
}

fn coming_of(coming: Coming<'_>) -> files::Coming {
    let text = |name: &OsStr| name.to_string_lossy().into_owned();
    match coming {
        Coming::File(name) => files::Coming::File(text(name)),
        Coming::Directory(name) => files::Coming::Directory(text(name)),
        Coming::Contents => files::Coming::Contents,
        Coming::Archive => files::Coming::Archive,
    }
}

/// The last name of a path. None where what is in it is meant: `DIR/.`, the root, a parent.
fn typed_name(path: &str) -> Option<String> {
    let last = path.rsplit('/').find(|part| !part.is_empty())?;
    (!matches!(last, "." | "..")).then(|| last.to_owned())
}

fn host_root() -> Result<Root, fcvm_archive::Error> {
    let root = Path::new("/");
    Root::open(root).map_err(|error| file_error("open", root, error.into()))
}

/// A path from the root, with the slash at its end if it was typed so.
fn absolute(path: &Path) -> Result<PathBuf, fcvm_archive::Error> {
    std::path::absolute(path).map_err(|error| file_error("find", path, error))
}

fn file_error(operation: &'static str, path: &Path, source: std::io::Error) -> fcvm_archive::Error {
    fcvm_archive::Error::File { operation, path: path.to_owned(), source }
}

impl Source {
    fn vm(&self) -> Option<&str> {
        if let Self::Vm(path) = self { Some(&path.vm) } else { None }
    }
}

impl Target {
    fn vm(&self) -> Option<&str> {
        if let Self::Vm(path) = self { Some(&path.vm) } else { None }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(path) => path.fmt(f),
            Self::Host(path) => path.fmt(f),
            Self::Archive(_) => f.write_str("an archive"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(path) => path.fmt(f),
            Self::Host(path) => path.fmt(f),
            Self::Archive(_) => f.write_str("an archive"),
        }
    }
}
