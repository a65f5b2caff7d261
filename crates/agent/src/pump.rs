//! Carries a process's streams: its output until it has ended and all that it wrote is sent, its input as it comes.

use crate::reaper::Reaper;
use crate::terminal;
use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, StreamError};
use fcvm_proto::message::{Exit, ProcessEvent, ProcessMessage};
use rustix::process::Signal;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Our ends of a process's streams: pipes, or the master of its terminal.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    /// None: a terminal, on which all output is one.
    pub(crate) stderr: Option<pipe::Receiver>,
}

impl Streams {
    fn kind(&self) -> Kind {
        if self.stderr.is_none() { Kind::Terminal } else { Kind::Pipes }
    }
}

/// What a process's streams are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pipes,
    Terminal,
}

/// What one read may bring: a frame.
const READ: usize = 64 << 10;
/// More than the kernel keeps of what was written to a terminal.
const TERMINAL: u64 = 256 << 10;

/// A process whose streams are carried, by one stream of the link or by one after another.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    streams: Streams,
    exit: watch::Receiver<Option<Exit>>,
    /// The cgroup that it is the first process of.
    cgroup: Option<PathBuf>,
}

impl Process {
    /// A process that was just started.
    pub(crate) fn new(pid: i32, streams: Streams, reaper: &Reaper) -> Self {
        let ended = reaper.ended(pid);
        let (noted, exit) = watch::channel(None);
        tokio::task::spawn_local(async move {
            let exit = ended.await.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
            let _ = noted.send(Some(exit));
        });
        Self { pid, streams, exit, cgroup: None }
    }

    /// Is the first process of a cgroup: with its end goes whether memory was short there.
    pub(crate) fn first_of(self, cgroup: PathBuf) -> Self {
        Self { cgroup: Some(cgroup), ..self }
    }

    /// Waits for its end. May be cancelled.
    pub(crate) async fn ended(&mut self) {
        over(self.exit.clone()).await;
    }

    /// How one that has ended did so, and the last line that it wrote on standard error.
    pub(crate) fn complaint(&self) -> (u8, String) {
        let mut text = vec![0; READ];
        let source = self.streams.stderr.as_ref().unwrap_or(&self.streams.stdout);
        let length = rustix::io::read(source.as_fd(), &mut text[..]).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]).into_owned();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
        (self.exit.borrow().map_or(125, Exit::code), last.trim().to_owned())
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Carries the process to its end, or until nobody wants to be at it. After an error, which says that the other side
    /// did not see it all, another stream may carry it on; bytes that were on their way are lost to that one.
    pub(crate) async fn carry(&mut self, (sender, receiver): (Sender, Receiver)) -> Result<Carried, StreamError> {
        let Self { pid, streams, exit, cgroup } = self;
        let kind = streams.kind();
        let Streams { stdin, stdout, stderr } = streams;
        let to = |lane| Destination::Lane(&sender, lane);
        let outputs = outputs((stdout, to(Lane::Data)), (stderr.as_ref(), to(Lane::Error)), exit);
        let ended = over(exit.clone());
        let input = input(*pid, (stdin, stdout), kind, receiver);
        let exit = tokio::select! {
            (carried, exit) = async { tokio::join!(outputs, ended) } => carried.map(|()| exit)?,
            () = sender.closed() => return Err(StreamError::Reset("the client is gone".to_owned())),
            Detached = input => {
                sender.message(&ProcessEvent::Detached).await?;
                sender.finish();
                return Ok(Carried::Detached);
            }
        };
        if cgroup.as_deref().is_some_and(crate::cgroup::ran_out_of_memory) {
            sender.message(&ProcessEvent::OutOfMemory).await?;
        }
        sender.message(&ProcessEvent::Exited(exit)).await?;
        sender.finish();
        Ok(Carried::ToItsEnd)
    }

    /// Waits for the end of a process that nobody is at: what it writes goes nowhere.
    pub(crate) async fn abandon(self) {
        let Self { streams: Streams { stdin: _stays_open, stdout, stderr }, exit, .. } = self;
        let nowhere = || Destination::Nowhere;
        let _nothing_can_fail = outputs((&stdout, nowhere()), (stderr.as_ref(), nowhere()), &exit).await;
        over(exit).await;
    }
}

/// How far a process was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It has ended.
    ToItsEnd,
    /// It goes on.
    Detached,
}

/// Where output goes.
#[derive(Clone, Copy)]
enum Destination<'s> {
    Lane(&'s Sender, Lane),
    Nowhere,
}

impl Destination<'_> {
    async fn take(&self, bytes: &[u8]) -> Result<(), StreamError> {
        match self {
            Self::Lane(sender, lane) => sender.send(*lane, Bytes::copy_from_slice(bytes)).await,
            Self::Nowhere => Ok(()),
        }
    }
}

/// Waits for the end of a process.
async fn over(mut exit: watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.expect("it was waited for"),
        // The reaper is gone, and with it the machine.
        Err(_) => Exit::Signal(Signal::KILL.as_raw()),
    }
}

/// Carries both outputs of a process; a terminal has but one.
async fn outputs(
    (stdout, to): (&pipe::Receiver, Destination<'_>),
    (stderr, errors_to): (Option<&pipe::Receiver>, Destination<'_>),
    exit: &watch::Receiver<Option<Exit>>,
) -> Result<(), StreamError> {
    match stderr {
        None => output((stdout, to), exit.clone(), |_| TERMINAL).await,
        Some(stderr) => {
            // Asks the kernel itself: the runtime may not have heard yet that there is something.
            let held = |pipe: &pipe::Receiver| rustix::io::ioctl_fionread(pipe.as_fd()).unwrap_or(0);
            let both = (output((stdout, to), exit.clone(), held), output((stderr, errors_to), exit.clone(), held));
            tokio::try_join!(both.0, both.1).map(|_| ())
        }
    }
}

/// Carries what the process writes until the pipe's end, or until the process is over and what is buffered, which is no
/// more than `held` says, is carried: others may hold the pipe open for ever.
async fn output(
    (pipe, to): (&pipe::Receiver, Destination<'_>),
    exit: watch::Receiver<Option<Exit>>,
    held: impl Fn(&pipe::Receiver) -> u64,
) -> Result<(), StreamError> {
    let mut buffer = vec![0; READ];
    let mut over = std::pin::pin!(over(exit));
    loop {
        tokio::select! {
            ready = pipe.readable() => if ready.is_err() { return Ok(()) },
            _ = &mut over => return drain((pipe, to), held(pipe), &mut buffer).await,
        }
        match pipe.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.take(&buffer[..length]).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A terminal's end, once nobody has its other side.
            Err(_) => return Ok(()),
        }
    }
}

/// Carries what a pipe holds now, at most so many bytes.
async fn drain(
    (pipe, to): (&pipe::Receiver, Destination<'_>),
    mut left: u64,
    buffer: &mut [u8],
) -> Result<(), StreamError> {
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(length @ 1..) = rustix::io::read(pipe.as_fd(), &mut buffer[..wanted]) else { return Ok(()) };
        left -= length as u64;
        to.take(&buffer[..length]).await?;
    }
    Ok(())
}

/// Nobody wants to be at a process any more.
struct Detached;

/// Gives the process what comes for it, until that is said. The end of the direction ends its input too; a stream that is
/// lost does not.
async fn input(
    pid: i32,
    (stdin, stdout): (&mut Option<pipe::Sender>, &pipe::Receiver),
    kind: Kind,
    mut receiver: Receiver,
) -> Detached {
    loop {
        let item = match receiver.recv().await {
            Ok(Some(item)) => item,
            ended => {
                if ended.is_ok() && kind == Kind::Pipes {
                    *stdin = None;
                }
                return std::future::pending().await;
            }
        };
        match item.lane {
            Lane::Data => {
                if let Some(pipe) = stdin
                    && pipe.write_all(&item.bytes).await.is_err()
                {
                    *stdin = None;
                }
            }
            Lane::Message => match item.message() {
                Ok(ProcessMessage::Signal(signal)) => self::signal(pid, signal),
                // A terminal has no end: whoever is at it may go, and come again.
                Ok(ProcessMessage::EndOfInput) => *stdin = stdin.take().filter(|_| kind == Kind::Terminal),
                // Of a pipe this is refused, and no harm.
                Ok(ProcessMessage::Resize(size)) => drop(terminal::resize(stdout, size)),
                Ok(ProcessMessage::Detach) => return Detached,
                Err(error) => eprintln!("fcvm-agent: a message for process {pid} is nonsense: {error}"),
            },
            Lane::Error => {}
        }
    }
}

/// Sends a signal by number; that the process is gone is no error.
pub(crate) fn signal(pid: i32, number: i32) {
    let _ = fcvm_sys::guest::send_signal(pid, number);
}
