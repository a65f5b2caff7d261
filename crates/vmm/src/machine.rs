//! A machine that runs: its process, its link, its console, and how it ends.

use crate::memory::{Memory, MemoryCopy};
use crate::qemu::{self, Qmp};
use crate::tail::Tail;
use crate::{Backend, Choice, Console, Error};
use fcvm_sys::jail::Isolation;
use fcvm_sys::process::{Ending, Watched};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// A machine that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    pub(crate) child: Watched,
    pub(crate) choice: Choice,
    pub(crate) isolation: Isolation,
    pub(crate) link: Option<UnixStream>,
    pub(crate) memory: Memory,
    /// The file into which the monitor saves its devices.
    pub(crate) state: OwnedFd,
    pub(crate) console: Console,
    pub(crate) stderr: Tail,
    pub(crate) qmp: Qmp,
    /// What reads the console, the standard error and the answers: they end with the process.
    pub(crate) readers: JoinSet<()>,
    pub(crate) killed: bool,
    pub(crate) exit: Option<Exit>,
}

/// How a machine ended. As text it goes after "the monitor".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest powered off.
    PoweredOff,
    /// The guest reset itself, as a kernel does that panics.
    Reset,
    /// [`Machine::kill`] was called.
    Killed,
    /// Someone else ended the monitor with this signal, or it crashed.
    Signal(i32),
    /// The monitor gave up.
    Failed {
        /// Its exit status.
        status: i32,
        /// The last lines of its standard error.
        stderr: String,
    },
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::PoweredOff => f.write_str("ended because the guest powered off"),
            Exit::Reset => f.write_str("ended because the guest reset itself, as a kernel does that panics"),
            Exit::Killed => f.write_str("was killed by its owner"),
            Exit::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Exit::Failed { status, stderr } => write!(f, "failed with status {status}: {stderr}"),
        }
    }
}

impl Machine {
    /// Takes the link: a connected stream to the guest's port. There is one per machine.
    pub fn take_link(&mut self) -> Option<UnixStream> {
        self.link.take()
    }

    /// Returns the console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Returns how the machine was chosen to run.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Returns what isolation its monitor has.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Returns the monitor's process number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Returns the monitor's version, for example `7.2.22`.
    pub fn version(&self) -> String {
        self.qmp.version().unwrap_or_default()
    }

    /// Begins a copy of the guest's memory.
    pub fn copy_memory(&self) -> io::Result<MemoryCopy> {
        self.memory.copy(self.pid())
    }

    /// Returns which pages of its memory file a restored machine has used: first page and number of each part.
    pub fn touched_memory(&self) -> io::Result<Vec<(u64, u64)>> {
        self.memory.touched(self.pid())
    }

    /// Saves the state of processors and devices, in the monitor's own format. The machine is paused.
    pub async fn save_devices(&self) -> Result<Vec<u8>, Error> {
        match self.choice.backend {
            Backend::Qemu(_) => qemu::save_devices(self).await,
        }
    }

    /// Stops the guest's processors.
    pub async fn pause(&self) -> Result<(), Error> {
        self.steer("pause", "stop").await
    }

    /// Lets the guest's processors go on.
    pub async fn resume(&self) -> Result<(), Error> {
        self.steer("resume", "cont").await
    }

    async fn steer(&self, what: &'static str, command: &'static str) -> Result<(), Error> {
        self.qmp.execute(command).await.map(drop).map_err(|source| Error::Steer { what, source })
    }

    /// Kills the machine and waits for its end.
    pub async fn kill(&mut self) -> Exit {
        self.killed = true;
        if let Err(error) = self.child.kill() {
            tracing::warn!(%error, pid = self.pid(), "the monitor could not be killed");
        }
        self.wait().await
    }

    /// Waits for the machine's end; after it returns the same at once. May be cancelled and called again.
    pub async fn wait(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let ending = self.child.ended().await;
        // What it wrote last is still on its way.
        while self.readers.join_next().await.is_some() {}
        let exit = self.judge(ending);
        tracing::debug!(pid = self.pid(), %exit, "a monitor ended");
        self.exit = Some(exit.clone());
        exit
    }

    fn judge(&self, ending: io::Result<Ending>) -> Exit {
        match ending {
            Ok(Ending::Signal(_)) if self.killed => Exit::Killed,
            Ok(Ending::Signal(signal)) => Exit::Signal(signal),
            Ok(Ending::Code(0)) => self.qmp.shutdown().unwrap_or(Exit::PoweredOff),
            Ok(Ending::Code(status)) => Exit::Failed { status, stderr: self.stderr.text() },
            Err(error) => Exit::Failed { status: -1, stderr: format!("its end was missed: {error}") },
        }
    }
}
