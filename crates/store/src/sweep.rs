//! What a killed owner left: found by its free lock, ended as it would have ended itself.

use crate::{Ended, Error, Store, VmDir, VmRecord, What};
use fcvm_spec::{Phase, Removal};
use std::fs::File;
use std::time::{SystemTime, UNIX_EPOCH};

/// What the sweep did with one VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swept {
    /// Its directory and its name were removed.
    Removed(String),
    /// It was marked as ended; its logs and its disk stay until `rm`.
    Retired(String),
}

/// The exit code of a VM whose owner was killed: as if by SIGKILL.
const KILLED: u8 = 137;

impl Store {
    /// Returns how many VMs a sweep would end.
    pub fn left_overs(&self) -> Result<usize, Error> {
        Ok(self.abandoned()?.len())
    }

    fn abandoned(&self) -> Result<Vec<VmDir>, Error> {
        Ok(self.vms()?.into_iter().filter(|vm| !vm.is_owned() && vm.needs_sweep()).collect())
    }

    /// Ends every VM whose owner is gone. Quick where there is nothing to do: one open and one lock per live VM.
    pub fn sweep(&self) -> Result<Vec<Swept>, Error> {
        self.sweep_snapshots()?;
        let candidates = self.abandoned()?;
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let _guard = self.exclusive()?;
        candidates.iter().filter_map(|vm| self.sweep_vm(vm).transpose()).collect()
    }

    fn sweep_vm(&self, vm: &VmDir) -> Result<Option<Swept>, Error> {
        let Ok(lock) = File::open(vm.lock_path()) else {
            // Killed between its first and its second file: it never had anything else.
            return match vm.record() {
                Ok(_) => Ok(None),
                Err(_) => vm.remove().map(|()| Some(Swept::Removed(vm.id().short().to_owned()))),
            };
        };
        if lock.try_lock().is_err() {
            return Ok(None);
        }
        let short = vm.id().short().to_owned();
        match vm.record() {
            Ok(record) if is_kept(&record) => {
                end_monitor(&record);
                let was_live = record.phase.is_live();
                let record = ended(record);
                if was_live {
                    self.note(&record, What::Died { code: KILLED });
                }
                vm.retire(&record)?;
                Ok(Some(Swept::Retired(short)))
            }
            record => {
                if let Ok(record) = record {
                    end_monitor(&record);
                }
                vm.remove()?;
                Ok(Some(Swept::Removed(short)))
            }
        }
    }
}

impl VmDir {
    /// Whether the directory is that of a live VM, or was never finished.
    fn needs_sweep(&self) -> bool {
        self.lock_path().exists() || !self.path().join("record.json").exists()
    }
}

/// Whether a VM whose owner was killed is to be seen afterwards. One that nobody was told of leaves nothing.
fn is_kept(record: &VmRecord) -> bool {
    let is_known = record.known || !matches!(record.phase, Phase::Created | Phase::Starting);
    is_known && record.spec.removal == Removal::Keep
}

/// The monitor dies with its owner by itself; this makes sure before its directory goes.
fn end_monitor(record: &VmRecord) {
    let Some(monitor) = &record.monitor else { return };
    let Some(pid) = rustix::process::Pid::from_raw(monitor.process.pid as i32) else { return };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    if !monitor.process.is_alive() {
        return;
    }
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let mut ready = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
    if let Ok(0) | Err(_) = rustix::event::poll(&mut ready, Some(&limit)) {
        tracing::warn!(pid = monitor.process.pid, "a monitor outlived its owner and SIGKILL");
    }
}

/// What is said of a VM whose owner was killed: nothing new if that was before it had begun, or after it had ended.
fn ended(mut record: VmRecord) -> VmRecord {
    if !record.phase.is_live() {
        return record;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    record.phase = Phase::Exited;
    record.monitor = None;
    let reason = Some("its owner process was killed".to_owned());
    record.ended = Some(Ended { at_ns: now, code: KILLED, reason, oom_killed: false });
    record
}
