//! A machine that runs: its process, its link, its console, and how it ends.

use crate::control::Control;
use crate::firecracker::Supervised;
use crate::memory::{Memory, MemoryCopy, Whole};
use crate::process::Process;
use crate::{Choice, Console, Error, Line};
use fcvm_sys::jail::Isolation;
use fcvm_sys::process::Ending;
use std::fmt;
use std::io;

/// A machine that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Machine {
    process: Process,
    choice: Choice,
    line: Option<Line>,
    memory: Memory,
    control: Control,
    /// Its bond with a page server, if it has one.
    supervised: Option<Supervised>,
    killed: bool,
    exit: Option<Exit>,
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
    /// It was ended because nobody brings its pages any more.
    PagesLost(String),
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
            Exit::PagesLost(reason) => write!(f, "was ended because {reason}"),
            Exit::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Exit::Failed { status, stderr } => write!(f, "failed with status {status}: {stderr}"),
        }
    }
}

impl Machine {
    /// Makes one of a monitor that runs it.
    pub(crate) fn new(process: Process, choice: Choice, line: Line, memory: Memory, control: Control) -> Self {
        Self { process, choice, line: Some(line), memory, control, supervised: None, killed: false, exit: None }
    }

    /// Binds it to the server that brings its pages.
    pub(crate) fn supervised(self, supervised: Option<Supervised>) -> Self {
        Self { supervised, ..self }
    }

    /// Takes the way to the guest's agent. There is one per machine.
    pub fn take_line(&mut self) -> Option<Line> {
        self.line.take()
    }

    /// Returns the console.
    pub fn console(&self) -> &Console {
        &self.process.console
    }

    /// Returns how the machine was chosen to run.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// Returns what isolation its monitor has.
    pub fn isolation(&self) -> &Isolation {
        &self.process.isolation
    }

    /// Returns the monitor's process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the monitor's version, for example `7.2.22`.
    pub fn version(&self) -> String {
        self.control.version()
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
        self.control.save_devices().await
    }

    /// Takes the copy of the memory that was made with the devices: see [`MemoryCopy::Monitors`].
    pub fn saved_memory(&self) -> io::Result<Whole> {
        Whole::of(self.control.saved_memory()?)
    }

    /// Stops the guest's processors.
    pub async fn pause(&self) -> Result<(), Error> {
        self.control.pause().await
    }

    /// Lets the guest's processors go on.
    pub async fn resume(&self) -> Result<(), Error> {
        self.control.resume().await
    }

    /// Tells the guest that the file of its disk with this index has so many bytes now.
    pub async fn resize_disk(&self, index: usize, bytes: u64) -> Result<(), Error> {
        self.control.resize(index, bytes).await
    }

    /// Kills the machine and waits for its end.
    pub async fn kill(&mut self) -> Exit {
        self.killed = true;
        if let Err(error) = self.process.child.kill() {
            tracing::warn!(%error, pid = self.pid(), "the monitor could not be killed");
        }
        self.wait().await
    }

    /// Waits for the machine's end; after it returns the same at once. May be cancelled and called again.
    pub async fn wait(&mut self) -> Exit {
        if let Some(exit) = &self.exit {
            return exit.clone();
        }
        let ending = self.process.ended().await;
        let exit = self.judge(ending);
        tracing::debug!(pid = self.pid(), %exit, "a monitor ended");
        self.exit = Some(exit.clone());
        exit
    }

    fn lost(&self) -> Option<String> {
        self.supervised.as_ref().and_then(Supervised::lost).map(str::to_owned)
    }

    fn judge(&self, ending: io::Result<Ending>) -> Exit {
        match ending {
            Ok(Ending::Signal(_)) if self.killed => Exit::Killed,
            Ok(Ending::Signal(signal)) => self.lost().map_or(Exit::Signal(signal), Exit::PagesLost),
            Ok(Ending::Code(0)) => self.control.shutdown().unwrap_or(Exit::PoweredOff),
            Ok(ending @ Ending::Code(status)) => Exit::Failed { status, stderr: self.process.last_words(ending) },
            Err(error) => Exit::Failed { status: -1, stderr: format!("its end was missed: {error}") },
        }
    }
}
