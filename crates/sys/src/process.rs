//! Processes by descriptor and by (pid, start time), never by a bare pid.
//!
//! Starting one is `jail`'s matter.

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By its own will, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Code(code) => write!(f, "exit status {code}"),
            Ending::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A child of this process. Dropping it kills and reaps it.
///
/// Its descriptor is readable once the process has ended, so it can wait in an event loop.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    ending: Option<Ending>,
}

impl Child {
    /// Takes charge of a child that nobody else waits for: until then its number cannot be given to another process.
    pub(crate) fn adopt(pid: Pid) -> io::Result<Self> {
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        Ok(Self { pid, pidfd, ending: None })
    }

    /// Returns its number, for people and for `/proc`.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal. A process that has ended already is none of the errors.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Kills it, whatever it does.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Returns how it ended, at once; nothing while it runs.
    pub fn try_wait(&mut self) -> io::Result<Option<Ending>> {
        self.reap(WaitIdOptions::NOHANG)
    }

    /// Blocks until it ends.
    pub fn wait(&mut self) -> io::Result<Ending> {
        loop {
            match self.reap(WaitIdOptions::empty()) {
                Ok(Some(ending)) => return Ok(ending),
                Ok(None) => {}
                // A non-blocking pidfd does not wait by itself.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_readable(&self.pidfd)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn reap(&mut self, how: WaitIdOptions) -> io::Result<Option<Ending>> {
        if self.ending.is_some() {
            return Ok(self.ending);
        }
        let status = match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | how) {
            Err(rustix::io::Errno::AGAIN) if how.contains(WaitIdOptions::NOHANG) => None,
            other => other?,
        };
        self.ending = status.as_ref().and_then(ending);
        Ok(self.ending)
    }
}

fn ending(status: &WaitIdStatus) -> Option<Ending> {
    let by_signal = || status.terminating_signal().map(Ending::Signal);
    status.exit_status().map(Ending::Code).or_else(by_signal)
}

/// Tells whether this process runs as root, as far as files and processes of the host are concerned.
pub fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn wait_readable(fd: &OwnedFd) -> io::Result<()> {
    let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
    match rustix::event::poll(&mut fds, None) {
        Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Child {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ending.is_none() && (self.kill().is_err() || self.wait().is_err()) {
            // It is no child of ours any more; there is nobody to tell.
        }
    }
}

/// A [`Child`] whose end an event loop waits for.
#[derive(Debug)]
pub struct Watched {
    child: AsyncFd<Child>,
}

impl Watched {
    /// Watches a child with the event loop that runs this.
    pub fn new(child: Child) -> io::Result<Self> {
        // SAFETY: the descriptor is the child's own from its making to its drop; `Child` has no way to replace it.
        let child = unsafe { AsyncFd::register_with_interest(child, Interest::READABLE) }?;
        Ok(Self { child })
    }

    /// Returns its number, for people and for `/proc`.
    pub fn pid(&self) -> u32 {
        self.child.get_ref().pid()
    }

    /// Kills it, whatever it does.
    pub fn kill(&self) -> io::Result<()> {
        self.child.get_ref().kill()
    }

    /// Returns a descriptor of it for someone else who watches it: readable once it has ended.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        self.child.get_ref().pidfd.try_clone()
    }

    /// Waits for its end; afterwards returns the same at once. May be cancelled and called again.
    pub async fn ended(&mut self) -> io::Result<Ending> {
        loop {
            if let Some(ending) = self.child.get_mut().try_wait()? {
                return Ok(ending);
            }
            self.child.readable().await?.clear_ready();
        }
    }
}

/// A process of this host, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the host booted: field 22 of `/proc/PID/stat` (proc(5)).
    pub start_time: u64,
}

impl Identity {
    /// Reads the identity of the process that has this number now. `NotFound` if there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = read_stat(&format!("/proc/{pid}/stat"))?;
        stat_field(&stat, 22).map(|start_time| Self { pid, start_time }).ok_or_else(|| unreadable("start time"))
    }

    /// Reads this process's own identity.
    pub fn own() -> io::Result<Self> {
        Self::of(std::process::id())
    }

    /// Tells whether this very process still runs; one that has ended but was not reaped does not.
    pub fn is_alive(&self) -> bool {
        let Ok(stat) = read_stat(&format!("/proc/{}/stat", self.pid)) else { return false };
        let ended = matches!(stat_state(&stat), Some('Z' | 'X'));
        !ended && stat_field(&stat, 22) == Some(self.start_time)
    }
}

fn read_stat(path: &str) -> io::Result<String> {
    // The name of a program may be any bytes.
    let bytes = std::fs::read(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
        _ => error,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the numeric field `number` (from 1, at least 4) of a `/proc/PID/stat` line, whose name field may hold
/// anything.
pub(crate) fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn stat_state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no {what} in /proc/PID/stat"))
}

#[cfg(test)]
mod tests;
