//! Carries a process's streams: its output until it has ended and all that it wrote is sent, its input as it comes.
//!
//! Not on the agent's own thread. A pipe is locked by whoever writes to it or reads from it for as long as that takes, and
//! what a process writes may come straight from a file of a volume (`sendfile`, or memory that is a file's). For the other
//! side of the pipe that is waiting for the volume too, which the agent's own thread carries.

use crate::reaper::Reaper;
use crate::terminal;
use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, StreamError};
use fcvm_proto::message::{Exit, ProcessEvent, ProcessMessage};
use rustix::process::Signal;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};

/// Our ends of a process's streams, before anybody carries them.
#[derive(Debug)]
pub(crate) enum Streams {
    /// Pipes; without a stdin it reads nothing.
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// The master of its terminal, which does not block.
    Terminal(OwnedFd),
}

/// A thread that carries the streams of one process: no other waits for what this one's files do not answer.
#[derive(Debug)]
pub(crate) struct Pump {
    orders: mpsc::UnboundedSender<Order>,
}

const STACK: usize = 256 << 10;

/// What the thread is to do. It ends when nobody can say.
#[derive(Debug)]
enum Order {
    /// Take over these.
    Take(Streams),
    /// Carry them until the process is at its end or nobody wants to be at it.
    Carry(Running, (Sender, Receiver), oneshot::Sender<Left>),
    /// Take what the process writes nowhere, until it has ended.
    Abandon(Running, oneshot::Sender<()>),
    /// Read the beginning of what is left of standard error.
    Complain(oneshot::Sender<String>),
}

/// A process as far as its streams are concerned.
#[derive(Clone, Debug)]
struct Running {
    pid: i32,
    exit: watch::Receiver<Option<Exit>>,
    /// The cgroup that it is the first process of.
    cgroup: Option<PathBuf>,
}

/// How a process was when it was carried no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    AtItsEnd,
    Running,
    /// What it wrote was not all taken.
    Unheard,
}

impl Pump {
    /// Starts a thread that waits for a process.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let (orders, mut given) = mpsc::unbounded_channel();
        let pump = move || {
            runtime.block_on(async {
                let mut ends = None;
                while let Some(order) = given.recv().await {
                    follow(order, &mut ends).await;
                }
            });
        };
        std::thread::Builder::new().name("pump".to_owned()).stack_size(STACK).spawn(pump)?;
        Ok(Self { orders })
    }

    /// Takes over a process that was just started.
    pub(crate) fn take(self, pid: i32, streams: Streams, reaper: &Reaper) -> Process {
        let ended = reaper.ended(pid);
        let (noted, exit) = watch::channel(None);
        tokio::task::spawn_local(async move {
            let exit = ended.await.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
            let _ = noted.send(Some(exit));
        });
        let _it_waits = self.orders.send(Order::Take(streams));
        Process { pump: self, running: Running { pid, exit, cgroup: None } }
    }

    /// Gives an order and waits for what comes of it.
    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(order(answer)).ok()?;
        answered.await.ok()
    }
}

async fn follow(order: Order, ends: &mut Option<Ends>) {
    match order {
        Order::Take(streams) => *ends = Ends::new(streams).ok(),
        Order::Carry(running, stream, answer) => {
            let left = match ends {
                Some(ends) => ends.carry(running, stream).await.unwrap_or(Left::Unheard),
                None => Left::Unheard,
            };
            let _nobody_waits = answer.send(left);
        }
        Order::Abandon(running, answer) => {
            if let Some(Ends { stdin: _stays_open, stdout, stderr }) = ends {
                let nowhere = || Destination::Nowhere;
                let errors = (stderr.as_ref(), nowhere());
                let _nothing_can_fail = outputs((stdout, nowhere()), errors, &running.exit).await;
            }
            over(running.exit).await;
            let _nobody_waits = answer.send(());
        }
        Order::Complain(answer) => {
            let _nobody_waits = answer.send(ends.as_ref().map(Ends::errors).unwrap_or_default());
        }
    }
}

/// Our ends of a process's streams, as the pump has them.
#[derive(Debug)]
struct Ends {
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    /// None: a terminal, on which all output is one.
    stderr: Option<pipe::Receiver>,
}

impl Ends {
    fn new(streams: Streams) -> io::Result<Self> {
        Ok(match streams {
            Streams::Pipes { stdin, stdout, stderr } => Self {
                stdin: stdin.map(pipe::Sender::from_owned_fd).transpose()?,
                stdout: pipe::Receiver::from_owned_fd(stdout)?,
                stderr: Some(pipe::Receiver::from_owned_fd(stderr)?),
            },
            Streams::Terminal(master) => Self {
                stdin: Some(pipe::Sender::from_file_unchecked(File::from(master.try_clone()?))?),
                stdout: pipe::Receiver::from_file_unchecked(File::from(master))?,
                stderr: None,
            },
        })
    }

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
    pump: Pump,
    running: Running,
}

/// How far a process was carried.
#[derive(Debug)]
pub(crate) enum Carried {
    /// It has ended, and that was said.
    ToItsEnd,
    /// Nobody wants to be at it any more; it goes on.
    Detached(Process),
    /// The other side did not see it all. Another stream may carry it on; bytes that were on their way are lost to that one.
    Lost(Process),
}

impl Process {
    /// Is the first process of a cgroup: with its end goes whether memory was short there.
    pub(crate) fn first_of(mut self, cgroup: PathBuf) -> Self {
        self.running.cgroup = Some(cgroup);
        self
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.running.pid
    }

    /// Waits for its end. May be cancelled.
    pub(crate) async fn ended(&self) {
        over(self.running.exit.clone()).await;
    }

    /// How one that has ended did so, and the last line that it wrote on standard error.
    pub(crate) async fn complaint(self) -> (u8, String) {
        let said = self.pump.order(Order::Complain).await.unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
        (self.running.exit.borrow().map_or(125, Exit::code), last.trim().to_owned())
    }

    /// Carries the process to its end, or until nobody wants to be at it.
    pub(crate) async fn carry(self, stream: (Sender, Receiver)) -> Carried {
        let running = self.running.clone();
        match self.pump.order(|answer| Order::Carry(running, stream, answer)).await {
            Some(Left::AtItsEnd) => Carried::ToItsEnd,
            Some(Left::Running) => Carried::Detached(self),
            Some(Left::Unheard) | None => Carried::Lost(self),
        }
    }

    /// Waits for the end of a process that nobody is at: what it writes goes nowhere.
    pub(crate) async fn abandon(self) {
        let running = self.running.clone();
        let _the_pump_is_gone = self.pump.order(|answer| Order::Abandon(running, answer)).await;
    }
}

impl Ends {
    async fn carry(
        &mut self,
        Running { pid, exit, cgroup }: Running,
        (sender, receiver): (Sender, Receiver),
    ) -> Result<Left, StreamError> {
        let kind = self.kind();
        let Self { stdin, stdout, stderr } = self;
        let to = |lane| Destination::Lane(&sender, lane);
        let outputs = outputs((stdout, to(Lane::Data)), (stderr.as_ref(), to(Lane::Error)), &exit);
        let ended = over(exit.clone());
        let input = input(pid, (stdin, stdout), kind, receiver);
        let exit = tokio::select! {
            (carried, exit) = async { tokio::join!(outputs, ended) } => carried.map(|()| exit)?,
            () = sender.closed() => return Err(StreamError::Reset("the client is gone".to_owned())),
            Detached = input => {
                sender.message(&ProcessEvent::Detached).await?;
                sender.finish();
                return Ok(Left::Running);
            }
        };
        if cgroup.as_deref().is_some_and(crate::cgroup::ran_out_of_memory) {
            sender.message(&ProcessEvent::OutOfMemory).await?;
        }
        sender.message(&ProcessEvent::Exited(exit)).await?;
        sender.finish();
        Ok(Left::AtItsEnd)
    }

    /// The beginning of what is left of standard error.
    fn errors(&self) -> String {
        let mut text = vec![0; READ];
        let source = self.stderr.as_ref().unwrap_or(&self.stdout);
        let length = rustix::io::read(source.as_fd(), &mut text[..]).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).into_owned()
    }
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
    let mut over = pin!(over(exit));
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
