//! The owner of a jail, whom nothing in it may outlive.
//!
//! Linux kills a process with its parent when asked to, but a parent that ended before it was asked is not noticed. So
//! every process of a jail asks first and looks for its parent afterwards.

use super::handover::Failure;
use crate::descriptor;
use crate::process::stat_field;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The parent of the messenger, by the number that `/proc` shows.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pid: u64,
}

impl Owner {
    /// Binds the messenger's life to its parent's, which has to be the process that gave the order.
    pub(super) fn bind(expected: i32) -> Result<Self, Failure> {
        die_with_parent()?;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        if parent != Some(expected) {
            return Err(gone());
        }
        // The host's /proc may belong to another pid namespace, where the owner has another number.
        let stat = open_stat().map_err(Failure::at("open /proc/self/stat"))?;
        parent_in(&stat).map(|pid| Self { pid })
    }
}

/// The same owner as the parent of the program's process.
///
/// There `getppid` says 0, because the parent is in another pid namespace, but `/proc/self/stat` of the host tells. It
/// is opened before the host's `/proc` goes out of sight.
pub(super) struct Bond {
    owner: Owner,
    stat: OwnedFd,
}

impl Bond {
    /// Opens what tells this process's parent, at a descriptor of at least `least`.
    pub(super) fn open(owner: Owner, least: RawFd) -> Result<Self, Failure> {
        let stat = open_stat().and_then(|stat| descriptor::move_up(stat, least));
        Ok(Self { owner, stat: stat.map_err(Failure::at("open /proc/self/stat"))? })
    }

    /// Binds this process's life to the owner's. A change of user or capabilities undoes it.
    pub(super) fn bind(&self) -> Result<(), Failure> {
        die_with_parent()?;
        if parent_in(&self.stat)? == self.owner.pid { Ok(()) } else { Err(gone()) }
    }
}

fn die_with_parent() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::at("follow the owner's end"))
}

fn gone() -> Failure {
    Failure { step: "find the owner alive".into(), errno: libc::ESRCH }
}

fn open_stat() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Reads field 4 of `/proc/PID/stat` (proc(5)) anew; the name before it is ours and short.
fn parent_in(stat: &OwnedFd) -> Result<u64, Failure> {
    let mut text = [0; 512];
    let length = rustix::io::pread(stat, &mut text, 0).map_err(Failure::at("read /proc/self/stat"))?;
    let text = String::from_utf8_lossy(&text[..length]);
    stat_field(&text, 4).ok_or_else(gone)
}

impl AsRawFd for Bond {
    fn as_raw_fd(&self) -> RawFd {
        self.stat.as_raw_fd()
    }
}
