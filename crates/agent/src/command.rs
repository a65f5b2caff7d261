//! Starts a program with streams of ours, so that they can be carried.
//!
//! Not on the agent's own thread. A new process begins with a copy of all our descriptors and gives them up as it is
//! executed, for which whoever starts it waits. If another thread has just opened a file of a volume, giving that up asks
//! the volume, and what it asks the agent's own thread carries.

use crate::pump::Streams;
use crate::terminal::Pair;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use tokio::task::spawn_blocking;

/// Whether a process has a stdin of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// It reads from `/dev/null`.
    Null,
    /// It reads what the stream carries.
    Carried,
}

/// A program that is to be started.
#[derive(Debug)]
pub(crate) struct Program {
    command: Command,
    inherited: Vec<OwnedFd>,
}

impl Program {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, inherited: Vec::new() }
    }

    /// It also has these, by the numbers that they have here.
    pub(crate) fn inheriting(command: Command, inherited: Vec<OwnedFd>) -> Self {
        Self { command, inherited }
    }

    /// Starts it in a process group of its own; returns its number. The reaper waits for it.
    async fn start(self) -> io::Result<i32> {
        // What one inherits no other may: one after the other.
        static ALONE: Mutex<()> = Mutex::new(());
        let Self { mut command, inherited } = self;
        let start = move || {
            let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            for fd in &inherited {
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            let child = command.process_group(0).spawn()?;
            drop((command, inherited));
            Ok(child.id() as i32)
        };
        spawn_blocking(start).await?
    }
}

/// Starts a program with pipes; returns its number and our ends of them.
pub(crate) async fn start(mut program: Program, input: Input) -> io::Result<(i32, Streams)> {
    let command = &mut program.command;
    let (stdout, their_stdout) = pipe_pair()?;
    let (stderr, their_stderr) = pipe_pair()?;
    let stdin = match input {
        Input::Null => {
            command.stdin(Stdio::null());
            None
        }
        Input::Carried => {
            let (theirs, ours) = pipe_pair()?;
            command.stdin(theirs);
            Some(ours)
        }
    };
    command.stdout(their_stdout).stderr(their_stderr);
    Ok((program.start().await?, Streams::Pipes { stdin, stdout, stderr }))
}

/// Starts a program with a terminal's other side; returns its number and ours.
pub(crate) async fn start_at(mut program: Program, Pair { master, slave }: Pair) -> io::Result<(i32, Streams)> {
    program.command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    Ok((program.start().await?, Streams::Terminal(master)))
}

/// A pipe's reading and writing end; neither is inherited but by the program that it is given to.
pub(crate) fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
