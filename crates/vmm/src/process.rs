//! A monitor as a process: in its jail, with what it says kept within bounds.

use crate::console::{Beginning, CONSOLE_FILE, Console};
use crate::tail::Tail;
use crate::{Error, MachineSpec};
use fcvm_sys::jail::{self, Entrance, Isolation, Jail};
use fcvm_sys::process::{Ending, Watched};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use tokio::task::JoinSet;

/// What a monitor is called, and what its exit codes mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monitor {
    pub(crate) name: &'static str,
    /// A clause about a code that means more than that it failed.
    pub(crate) meaning: fn(i32) -> Option<&'static str>,
}

/// A monitor that was started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    monitor: Monitor,
    pub(crate) child: Watched,
    pub(crate) isolation: Isolation,
    pub(crate) console: Console,
    pub(crate) stderr: Tail,
    /// What reads the console, the standard error and the answers: they end with the process.
    pub(crate) readers: JoinSet<()>,
}

impl Process {
    /// Starts a monitor in its jail; `console` is where the guest's serial port is read.
    pub(crate) fn start(
        monitor: Monitor,
        mut jail: Jail,
        (spec, entrance): (&MachineSpec, &Entrance),
        console: UnixStream,
    ) -> Result<Self, Error> {
        let log = spec.run_dir.join(CONSOLE_FILE);
        let beginning =
            Beginning::create(&log).map_err(|source| Error::File { role: "console log", path: log, source })?;
        let (stderr, its_stderr) = pair("standard error")?;
        jail.stderr = Stdio::from(its_stderr);
        jail.user = jail::one_user();
        let spawned = jail::spawn(jail, entrance).map_err(|source| Error::Spawn { monitor: monitor.name, source })?;
        let mut process = Self {
            monitor,
            child: Watched::new(spawned.child).map_err(host("process"))?,
            isolation: spawned.isolation,
            console: Console::default(),
            stderr: Tail::default(),
            readers: JoinSet::new(),
        };
        let console = connected(console, "console")?;
        process.readers.spawn(process.console.clone().follow(console, beginning));
        process.readers.spawn(process.stderr.clone().follow(connected(stderr, "standard error")?));
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Waits for the end, and for what the monitor wrote last. May be cancelled and called again.
    pub(crate) async fn ended(&mut self) -> io::Result<Ending> {
        let ending = self.child.ended().await;
        while self.readers.join_next().await.is_some() {}
        ending
    }

    /// Returns what its ending means, where that is known, and the last that it said.
    pub(crate) fn last_words(&self, ending: Ending) -> String {
        let meaning = match ending {
            Ending::Code(code) => (self.monitor.meaning)(code),
            Ending::Signal(_) => None,
        };
        let said = self.stderr.text();
        meaning.map_or_else(|| said.clone(), |meaning| format!("{meaning}; {said}"))
    }

    /// Says how a monitor ended that should have answered.
    pub(crate) async fn ended_early(&mut self) -> Error {
        let monitor = self.monitor.name;
        match self.ended().await {
            Ok(ending) => Error::EndedEarly { monitor, ending, stderr: self.last_words(ending) },
            Err(_) => Error::Silent { monitor, seconds: 0 },
        }
    }
}

/// Makes a connection, of which the first end is ours.
pub(crate) fn pair(what: &'static str) -> Result<(UnixStream, OwnedFd), Error> {
    let (ours, theirs) = UnixStream::pair().map_err(host(what))?;
    ours.set_nonblocking(true).map_err(host(what))?;
    Ok((ours, theirs.into()))
}

/// Takes our end of a connection into the runtime.
pub(crate) fn connected(stream: UnixStream, what: &'static str) -> Result<tokio::net::UnixStream, Error> {
    tokio::net::UnixStream::from_std(stream).map_err(host(what))
}

/// Names something of the host that could not be had.
pub(crate) fn host(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Host { what, source }
}
