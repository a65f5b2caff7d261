//! Carries a process's streams: its output until it has ended and all that it wrote is sent, its input as it comes.

use crate::reaper::Reaper;
use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, StreamError};
use fcvm_proto::message::{Exit, ProcessEvent, ProcessMessage};
use rustix::process::Signal;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Our ends of a process's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// What one read may bring: a frame.
const READ: usize = 64 << 10;

/// A process whose streams are carried, by one stream of the link or by one after another.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    pipes: Pipes,
    exit: watch::Receiver<Option<Exit>>,
    /// The cgroup that it is the first process of.
    cgroup: Option<&'static Path>,
}

impl Process {
    /// A process that was just started.
    pub(crate) fn new(pid: i32, pipes: Pipes, reaper: &Reaper) -> Self {
        let ended = reaper.ended(pid);
        let (noted, exit) = watch::channel(None);
        tokio::task::spawn_local(async move {
            let exit = ended.await.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
            let _ = noted.send(Some(exit));
        });
        Self { pid, pipes, exit, cgroup: None }
    }

    /// Is the first process of a cgroup: with its end goes whether memory was short there.
    pub(crate) fn first_of(self, cgroup: &'static str) -> Self {
        Self { cgroup: Some(Path::new(cgroup)), ..self }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Carries the process to its end. After an error, which says that the other side did not see it all, another stream
    /// may carry it on; bytes that were on their way are lost to that one.
    pub(crate) async fn carry(&mut self, (sender, receiver): (Sender, Receiver)) -> Result<(), StreamError> {
        let Self { pid, pipes: Pipes { stdin, stdout, stderr }, exit, cgroup } = self;
        let outputs = async {
            tokio::try_join!(
                output(stdout, &sender, Lane::Data, exit.clone()),
                output(stderr, &sender, Lane::Error, exit.clone()),
            )
        };
        let ended = over(exit.clone());
        let exit = tokio::select! {
            (carried, exit) = async { tokio::join!(outputs, ended) } => carried.map(|_| exit)?,
            () = sender.closed() => return Err(StreamError::Reset("the client is gone".to_owned())),
            () = async { input(*pid, stdin, receiver).await; std::future::pending().await } => unreachable!("it pends"),
        };
        if cgroup.is_some_and(crate::cgroup::ran_out_of_memory) {
            sender.message(&ProcessEvent::OutOfMemory).await?;
        }
        sender.message(&ProcessEvent::Exited(exit)).await?;
        sender.finish();
        Ok(())
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

/// Sends what the process writes until the pipe's end, or until the process is over and what is buffered is sent:
/// others may hold the pipe open for ever.
async fn output(
    pipe: &pipe::Receiver,
    sender: &Sender,
    lane: Lane,
    exit: watch::Receiver<Option<Exit>>,
) -> Result<(), StreamError> {
    let mut buffer = vec![0; READ];
    let mut over = std::pin::pin!(over(exit));
    loop {
        tokio::select! {
            ready = pipe.readable() => if ready.is_err() { return Ok(()) },
            _ = &mut over => return drain(pipe, sender, lane, &mut buffer).await,
        }
        match pipe.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => sender.send(lane, Bytes::copy_from_slice(&buffer[..length])).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Ok(()),
        }
    }
}

/// Sends what a pipe holds now. Asks the kernel itself: the runtime may not have heard yet that there is something.
async fn drain(pipe: &pipe::Receiver, sender: &Sender, lane: Lane, buffer: &mut [u8]) -> Result<(), StreamError> {
    let mut left = rustix::io::ioctl_fionread(pipe.as_fd()).unwrap_or(0);
    while left > 0 {
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Ok(length @ 1..) = rustix::io::read(pipe.as_fd(), &mut buffer[..wanted]) else { return Ok(()) };
        left -= length as u64;
        sender.send(lane, Bytes::copy_from_slice(&buffer[..length])).await?;
    }
    Ok(())
}

/// Gives the process what comes for it, until the stream ends. The end of the direction ends its input too; a stream that
/// is lost does not.
async fn input(pid: i32, stdin: &mut Option<pipe::Sender>, mut receiver: Receiver) {
    loop {
        let item = match receiver.recv().await {
            Ok(Some(item)) => item,
            Ok(None) => {
                *stdin = None;
                return;
            }
            Err(_) => return,
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
                Ok(ProcessMessage::EndOfInput) => *stdin = None,
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
