//! The directory of one VM: found by anyone, owned by one process at a time.

use crate::cgroup::remove_cgroup;
use crate::{Error, FailPoint, Owner, Store, VmRecord, What, file, snapshot};
use fcvm_spec::{VmId, VmName};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory of a VM that may be owned by another process.
#[derive(Clone, Debug)]
pub struct VmDir {
    id: VmId,
    path: PathBuf,
    store: Store,
}

/// The directory of a VM that this process owns, as long as this value lives.
#[derive(Debug)]
pub struct OwnedVm {
    dir: VmDir,
    record: VmRecord,
    // Held, never read: the kernel gives it back when the process dies in whatever way.
    _lock: File,
}

impl Store {
    /// Makes the directory of a new VM and takes its name, or leaves nothing.
    pub fn create_vm(&self, record: VmRecord) -> Result<OwnedVm, Error> {
        let guard = self.exclusive()?;
        let id = record.spec.id.clone();
        let dir = VmDir { path: self.vms_dir().join(id.as_str()), id, store: self.clone() };
        fs::DirBuilder::new().mode(0o700).create(&dir.path).map_err(Error::file("create directory", &dir.path))?;
        let owned = dir.clone().settle(record);
        if owned.is_err() {
            let _ = dir.remove();
        }
        drop(guard);
        owned
    }

    /// Makes the directory of a VM that is not started yet, and takes its name.
    pub fn create_unowned(&self, record: VmRecord) -> Result<(), Error> {
        let mut vm = self.create_vm(record)?;
        vm.record.known = true;
        vm.retire()
    }

    /// Finds a VM by name, id, or the beginning of an id.
    pub fn find_vm(&self, text: &str) -> Result<VmDir, Error> {
        if let Some(holder) = text.parse::<VmName>().ok().and_then(|name| self.holder(&name).transpose()).transpose()? {
            let dir = self.vm_dir(holder);
            if dir.path.is_dir() {
                return Ok(dir);
            }
        }
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(hex) {
            return Err(Error::NoSuchVm(text.chars().take(80).collect()));
        }
        let mut found = self.vms()?.into_iter().filter(|vm| vm.id.as_str().starts_with(text));
        match (found.next(), found.next()) {
            (Some(vm), None) => Ok(vm),
            (Some(_), Some(_)) => Err(Error::Ambiguous(text.to_owned())),
            (None, _) => Err(Error::NoSuchVm(text.to_owned())),
        }
    }

    /// Returns every VM's directory, in no order.
    pub fn vms(&self) -> Result<Vec<VmDir>, Error> {
        let path = self.vms_dir();
        let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
        let id = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        Ok(entries.filter_map(id).map(|id| self.vm_dir(id)).collect())
    }

    fn vm_dir(&self, id: VmId) -> VmDir {
        VmDir { path: self.vms_dir().join(id.as_str()), id, store: self.clone() }
    }
}

impl VmDir {
    /// The VM's id.
    pub fn id(&self) -> &VmId {
        &self.id
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket on which the owner answers.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The monitor's world.
    pub fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// The disk of the VM's own writes.
    pub fn scratch_disk(&self) -> PathBuf {
        self.path.join(snapshot::name::SCRATCH)
    }

    /// The last of the serial console.
    pub fn console_log(&self) -> PathBuf {
        self.path.join("console.log")
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("record.json")
    }

    /// Reads the record.
    pub fn record(&self) -> Result<VmRecord, Error> {
        let path = self.record_path();
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoSuchVm(self.id.short().to_owned()),
            _ => Error::file("read", &path)(error),
        })?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
    }

    /// Whether some process owns the VM now.
    pub fn is_owned(&self) -> bool {
        match File::open(self.lock_path()) {
            Ok(lock) => matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }

    /// Takes the ownership of a VM that nobody owns.
    pub fn take(&self) -> Result<OwnedVm, Error> {
        // Who else wants it waits for this guard; that somebody looks at the lock for a moment is waited for below.
        let _guard = self.store.exclusive()?;
        let record = self.record()?;
        if self.is_owned() {
            return Err(Error::Owned(record.spec.name.to_string()));
        }
        let lock = file::open_lock(&self.lock_path())?;
        lock.lock().map_err(Error::file("lock", &self.lock_path()))?;
        self.store.faults.at(FailPoint::Taken)?;
        Ok(OwnedVm { dir: self.clone(), record, _lock: lock })
    }

    /// Waits until no process owns the VM. Blocks; the lock is the kernel's, so a killed owner ends the wait.
    pub fn wait_until_free(&self) -> Result<(), Error> {
        match File::open(self.lock_path()) {
            Ok(lock) => lock.lock_shared().map_err(Error::file("lock", &self.lock_path())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::file("open", &self.lock_path())(error)),
        }
    }

    /// Removes an ended VM: its name, its directory and all in it.
    pub fn remove(&self) -> Result<(), Error> {
        let record = self.record();
        record.iter().for_each(|record| remove_cgroup(&record.spec));
        match &record {
            Ok(record) => self.store.free_name(&record.spec.name, &self.id)?,
            Err(_) => self.store.free_names_of(&self.id)?,
        }
        self.store.faults.at(FailPoint::NameFreed)?;
        // The first of its files: a directory without a record is swept, whatever else is left in it.
        file::remove(&self.record_path())?;
        self.store.faults.at(FailPoint::RecordRemoved)?;
        if let Ok(record) = &record {
            self.store.note(record, What::Remove);
        }
        file::remove_tree(&self.path)
    }

    /// Writes what outlives the machine and drops what does not: the directory of an ended VM is small and has no lock.
    pub(crate) fn retire(&self, record: &VmRecord) -> Result<(), Error> {
        remove_cgroup(&record.spec);
        file::remove_tree(&self.run_dir())?;
        file::remove(&self.control_socket())?;
        for lent in snapshot::name::LENT {
            file::remove(&self.path.join(lent))?;
        }
        self.write(record)?;
        self.store.faults.at(FailPoint::Retiring)?;
        file::remove(&self.lock_path())
    }

    /// Removes what a snapshot has lent, and the disks: the VM is to begin in another way.
    pub fn give_back(&self) -> Result<(), Error> {
        for lent in snapshot::name::LENT {
            file::remove(&self.path.join(lent))?;
        }
        snapshot::remove_disks(&self.path)?;
        file::remove(&self.scratch_disk())
    }

    /// Makes an empty directory for the files of a machine that is to take the place of the running one.
    pub fn make_next(&self) -> Result<PathBuf, Error> {
        let path = self.path.join("next");
        file::remove_tree(&path)?;
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(Error::file("create directory", &path))?;
        Ok(path)
    }

    /// Puts the files of [`VmDir::make_next`] in the place of the VM's own.
    pub fn take_over_next(&self) -> Result<(), Error> {
        let next = self.path.join("next");
        for name in snapshot::name::LENT.iter().chain([&snapshot::name::SCRATCH]) {
            let from = next.join(name);
            fs::rename(&from, self.path.join(name)).map_err(Error::file("rename", &from))?;
        }
        for from in snapshot::disks_in(&next)? {
            let name = from.file_name().expect("what is in a directory has a name");
            fs::rename(&from, self.path.join(name)).map_err(Error::file("rename", &from))?;
        }
        file::remove_tree(&next)
    }

    fn write(&self, record: &VmRecord) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(record).expect("a record has no maps with keys that are not text");
        file::write_atomic(&self.record_path(), &text, 0o600)
    }

    fn settle(self, record: VmRecord) -> Result<OwnedVm, Error> {
        let faults = self.store.faults;
        faults.at(FailPoint::Directory)?;
        let lock = file::open_lock(&self.lock_path())?;
        lock.lock().map_err(Error::file("lock", &self.lock_path()))?;
        faults.at(FailPoint::Locked)?;
        self.write(&record)?;
        faults.at(FailPoint::Recorded)?;
        self.store.claim_name(&record.spec.name, &self.id)?;
        faults.at(FailPoint::Named)?;
        Ok(OwnedVm { dir: self, record, _lock: lock })
    }
}

impl OwnedVm {
    /// The directory.
    pub fn dir(&self) -> &VmDir {
        &self.dir
    }

    /// The record as it was last written.
    pub fn record(&self) -> &VmRecord {
        &self.record
    }

    /// Changes the record and writes it.
    pub fn update(&mut self, change: impl FnOnce(&mut VmRecord)) -> Result<(), Error> {
        change(&mut self.record);
        self.dir.write(&self.record)
    }

    /// Writes down what happened to it.
    pub fn note(&self, what: What) {
        self.dir.store.note(&self.record, what);
    }

    /// Gives it another name, at once for everybody.
    pub fn rename(&mut self, name: VmName) -> Result<(), Error> {
        let before = self.record.spec.name.clone();
        if before == name {
            return Ok(());
        }
        let _guard = self.dir.store.exclusive()?;
        self.dir.store.claim_name(&name, &self.dir.id)?;
        self.update(|record| record.spec.name = name)?;
        self.dir.store.free_name(&before, &self.dir.id)?;
        self.note(What::Rename { before });
        Ok(())
    }

    /// Ends the ownership of a VM whose machine is gone: keeps its record and disk, or removes all.
    pub fn release(self) -> Result<(), Error> {
        match self.record.spec.removal {
            fcvm_spec::Removal::Automatic => self.discard(),
            fcvm_spec::Removal::Keep => self.retire(),
        }
    }

    /// Ends the ownership and keeps the record and the disk.
    pub fn retire(self) -> Result<(), Error> {
        self.dir.retire(&self.record)
    }

    /// Ends the ownership of a VM that was to be started: all is as it was before.
    pub fn put_back(mut self, before: VmRecord) -> Result<(), Error> {
        self.record = before;
        if self.record.started_ns.is_none() && !self.record.has_disk {
            self.dir.give_back()?;
        }
        self.retire()
    }

    /// Removes the VM and all it left.
    pub fn discard(self) -> Result<(), Error> {
        self.dir.remove()
    }
}

impl Owner {
    /// Describes the calling process.
    pub fn current() -> Self {
        let pid = std::process::id();
        Self { pid, start_time: start_time(pid).unwrap_or(0) }
    }

    /// Describes the process `pid` as it is now; none if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_time: start_time(pid)? })
    }

    /// Whether this very process still runs.
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

/// Field 22 of `/proc/PID/stat`; the second field is in parentheses and may hold anything.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
