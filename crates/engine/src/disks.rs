//! The user's disks of a VM: which file each of them is, and that nobody else writes to it meanwhile.

mod qcow2;

use crate::{Engine, Error};
use fcvm_spec::{DiskFormat, DiskSource, DiskSpec, MachineShape, RootfsSize, VmSpec};
use fcvm_store::snapshot::{FileIdentity, SavedDisk, disk_name};
use fcvm_store::{VmDir, sparse};
use fcvm_vmm::{Access, Choice, Disk};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The disks that every machine has: system, image, scratch.
pub(crate) const OWN: usize = 3;
/// The place of the scratch disk among them.
pub(crate) const SCRATCH: usize = 2;

/// A disk of the user's as a machine has it. As long as it lives nobody else can write to it.
#[derive(Clone, Debug)]
pub(crate) struct ExtraDisk {
    pub(crate) path: PathBuf,
    format: DiskFormat,
    access: Access,
    home: Home,
}

/// Whose a disk's file is.
#[derive(Clone, Debug)]
enum Home {
    /// The VM's: nobody else has it.
    Vm,
    /// The user's.
    User { _lock: Arc<File> },
}

/// Why a file cannot be a VM's disk.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be opened or looked at.
    #[error(transparent)]
    File(#[from] io::Error),
    /// It is a device, a directory or the like.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is no directory.
    #[error("it is not a directory")]
    NotADirectory,
    /// There is nothing in it.
    #[error("it is empty; `truncate -s 10G FILE` and `mkfs.ext4 FILE` make a disk of it")]
    Empty,
    /// Somebody else uses it.
    #[error("another VM uses it, or this one by another disk; only disks that nobody writes to (:ro) can be shared")]
    InUse,
    /// The monitor does not read this format.
    #[error("{monitor} reads raw disks only; convert it with `qemu-img convert -O raw`, or use --vmm qemu")]
    Format {
        /// The monitor.
        monitor: String,
    },
    /// It is not in QEMU's format.
    #[error("it is not in the format qcow2; give it as FILE:/path:raw if it is a plain disk")]
    NotQcow2,
    /// Only a part of the disk is in it.
    #[error("it needs {0} beside it; make one file of it with `qemu-img convert -O qcow2`")]
    NotWhole(&'static str),
}

impl Engine {
    /// Refuses disks that the VM cannot have, before anything is made for it.
    pub(crate) fn check_disks(&self, spec: &VmSpec) -> Result<(), Error> {
        let disks = &spec.machine.disks;
        if disks.is_empty() {
            return Ok(());
        }
        let choice = self.choose(spec)?;
        check_number(disks.len(), &choice)?;
        disks.iter().try_for_each(|disk| fit(disk, &choice).map_err(unfit(disk)))
    }

    /// Makes the disks of a VM ready for a machine: what is to be made of a directory is made, the user's files are locked.
    pub(crate) fn ready_disks(&self, vm: &VmDir, shape: &MachineShape) -> Result<Vec<ExtraDisk>, Error> {
        for (number, disk) in shape.disks.iter().enumerate() {
            if let DiskSource::Directory(source) = &disk.source
                && !vm.disk(number).exists()
            {
                let unfinished = vm.path().join(format!("{}.new", disk_name(number)));
                fcvm_image::disk_of_directory(Path::new(source), &unfinished)?;
                let failed = |error: io::Error| unfit(disk)(error.into());
                fs::rename(&unfinished, vm.disk(number)).map_err(failed)?;
            }
        }
        lock(vm.path(), shape)
    }
}

/// The disks of a machine whose own ones are in this directory.
pub(crate) fn lock(dir: &Path, shape: &MachineShape) -> Result<Vec<ExtraDisk>, Error> {
    let ready = |(number, disk): (usize, &DiskSpec)| {
        let own = dir.join(disk_name(number));
        let (path, home) = if own.exists() {
            (own, Home::Vm)
        } else {
            let path = PathBuf::from(disk.path());
            let lock = Arc::new(locked(&path, disk).map_err(unfit(disk))?);
            (path, Home::User { _lock: lock })
        };
        let access = if disk.read_only { Access::ReadOnly } else { Access::Durable };
        Ok(ExtraDisk { path, format: disk.format(), access, home })
    };
    shape.disks.iter().enumerate().map(ready).collect()
}

/// Whether the VM writes to a file that stays where it is when the VM goes back.
pub(crate) fn written_outside(dir: &VmDir, shape: &MachineShape) -> Option<PathBuf> {
    let mut disks = shape.disks.iter().enumerate();
    disks.find(|(number, disk)| !disk.read_only && !dir.disk(*number).exists()).map(|(_, disk)| disk.path().into())
}

/// Makes a scratch disk as large as this; its file system follows in the guest.
pub(crate) fn grow(scratch: &Path, size: RootfsSize) -> Result<(), Error> {
    let failed = |source| Error::Grow { path: scratch.to_owned(), source };
    let file = File::options().write(true).open(scratch).map_err(failed)?;
    let is = file.metadata().map_err(failed)?.len();
    if size.bytes() < is {
        return Err(Error::Shrinks { is: is >> 20 });
    }
    file.set_len(size.bytes()).map_err(failed)
}

impl ExtraDisk {
    /// What a monitor is told of it.
    pub(crate) fn for_monitor(&self) -> Disk {
        Disk { path: self.path.clone(), format: self.format, access: self.access }
    }

    /// Follows a file of the VM's own from one directory into another.
    pub(crate) fn move_to(&mut self, from: &Path, to: &Path) {
        if let Ok(name) = self.path.strip_prefix(from) {
            self.path = to.join(name);
        }
    }

    /// What becomes of it in a snapshot.
    pub(crate) fn saved(&self) -> Result<SavedDisk, Error> {
        Ok(match (self.access, &self.home) {
            (Access::ReadOnly, Home::Vm) => SavedDisk::Linked,
            (Access::ReadOnly, Home::User { .. }) => SavedDisk::Outside(FileIdentity::of(&self.path)?),
            (Access::Durable | Access::ReadWrite, _) => SavedDisk::Copied,
        })
    }

    /// The room that its copy in a snapshot takes, in bytes.
    pub(crate) fn copied_bytes(&self) -> Result<u64, Error> {
        if self.access == Access::ReadOnly { Ok(0) } else { Ok(sparse::allocated(&self.path)?) }
    }
}

fn unfit(disk: &DiskSpec) -> impl FnOnce(Unfit) -> Error {
    let path = disk.path().into();
    move |source| Error::Disk { path, source }
}

fn check_number(disks: usize, choice: &Choice) -> Result<(), Error> {
    let most = choice.backend.features().disks - OWN;
    if disks <= most { Ok(()) } else { Err(Error::TooManyDisks { monitor: choice.backend.to_string(), most, disks }) }
}

fn fit(disk: &DiskSpec, choice: &Choice) -> Result<(), Unfit> {
    match &disk.source {
        DiskSource::Directory(path) if fs::metadata(path)?.is_dir() => Ok(()),
        DiskSource::Directory(_) => Err(Unfit::NotADirectory),
        DiskSource::File { format: DiskFormat::Qcow2, .. } if !choice.backend.features().qcow2 => {
            Err(Unfit::Format { monitor: choice.backend.to_string() })
        }
        DiskSource::File { path, .. } => locked(Path::new(path), disk).map(drop),
    }
}

/// Opens a file of the user's and locks it: against all others if it is written to, against those who write if not.
fn locked(path: &Path, disk: &DiskSpec) -> Result<File, Unfit> {
    let mut options = File::options();
    // A pipe would be waited for.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(Unfit::NotAFile);
    }
    if metadata.len() == 0 {
        return Err(Unfit::Empty);
    }
    let file = options.read(true).write(!disk.read_only).open(path)?;
    let lock = if disk.read_only { file.try_lock_shared() } else { file.try_lock() };
    match lock {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Unfit::InUse),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    if disk.format() == DiskFormat::Qcow2 {
        qcow2::check(&file)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(disks: &[(&Path, bool)]) -> MachineShape {
        let disk = |(path, read_only): &(&Path, bool)| {
            let source = DiskSource::File { path: path.to_str().unwrap().to_owned(), format: DiskFormat::Raw };
            DiskSpec { source, target: "/data".to_owned(), read_only: *read_only }
        };
        MachineShape { disks: disks.iter().map(disk).collect(), ..MachineShape::default() }
    }

    #[test]
    fn a_disk_has_one_writer_or_many_readers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        fs::write(&path, "x").unwrap();
        let lock = |disks: &[(&Path, bool)]| lock(dir.path(), &shape(disks));
        let is_refused = |locked: Result<_, Error>| matches!(locked, Err(Error::Disk { source: Unfit::InUse, .. }));
        let writer = lock(&[(&path, false)]).unwrap();
        assert!(is_refused(lock(&[(&path, false)])) && is_refused(lock(&[(&path, true)])));
        drop(writer);
        let readers = (lock(&[(&path, true)]).unwrap(), lock(&[(&path, true), (&path, true)]).unwrap());
        assert!(is_refused(lock(&[(&path, false)])));
        drop(readers);
        assert!(is_refused(lock(&[(&path, true), (&path, false)])), "twice in one VM");
        assert_eq!(lock(&[(&path, false)]).unwrap()[0].path, path);
    }

    #[test]
    fn what_is_no_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        File::create(&empty).unwrap();
        for (path, what) in
            [(&empty, "truncate"), (&dir.path().to_owned(), "regular"), (&dir.path().join("x"), "No such")]
        {
            let refused = lock(dir.path(), &shape(&[(path, true)])).unwrap_err();
            assert!(crate::error::in_full(&refused).contains(what), "{refused:?}");
        }
    }

    #[test]
    fn a_copy_of_the_vms_own_comes_before_the_users_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, own) = (dir.path().join("file"), dir.path().join("disk0"));
        fs::write(&file, "x").unwrap();
        fs::write(&own, "y").unwrap();
        let disks = lock(dir.path(), &shape(&[(&file, false)])).unwrap();
        assert_eq!((&disks[0].path, disks[0].saved().unwrap()), (&own, SavedDisk::Copied));
        fs::remove_file(&own).unwrap();
        let disks = lock(dir.path(), &shape(&[(&file, true)])).unwrap();
        assert!(matches!(disks[0].saved().unwrap(), SavedDisk::Outside(identity) if identity.path == file));
    }
}
