//! Starts a program with streams of ours, so that they can be carried.

use crate::pump::Streams;
use crate::terminal::Pair;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use tokio::net::unix::pipe;

/// Whether a process has a stdin of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// It reads from `/dev/null`.
    Null,
    /// It reads what the stream carries.
    Carried,
}

/// Starts `command` in a process group of its own; returns its number and our ends of its streams.
pub(crate) fn start(mut command: Command, input: Input) -> io::Result<(i32, Streams)> {
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
            Some(pipe::Sender::from_owned_fd(ours)?)
        }
    };
    let child = command.stdout(their_stdout).stderr(their_stderr).process_group(0).spawn()?;
    let (stdout, stderr) = (pipe::Receiver::from_owned_fd(stdout)?, pipe::Receiver::from_owned_fd(stderr)?);
    // The reaper waits for it; dropping the handle does not.
    Ok((child.id() as i32, Streams { stdin, stdout, stderr: Some(stderr) }))
}

/// Starts `command` in a process group of its own with a terminal's other side; returns its number and ours.
pub(crate) fn start_at(mut command: Command, Pair { master, slave }: Pair) -> io::Result<(i32, Streams)> {
    command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let child = command.process_group(0).spawn()?;
    Ok((child.id() as i32, Streams::of_terminal(master)?))
}

impl Streams {
    /// The streams of a terminal's process, by the terminal's master, which does not block.
    pub(crate) fn of_terminal(master: OwnedFd) -> io::Result<Self> {
        let stdin = pipe::Sender::from_file_unchecked(File::from(master.try_clone()?))?;
        let stdout = pipe::Receiver::from_file_unchecked(File::from(master))?;
        Ok(Self { stdin: Some(stdin), stdout, stderr: None })
    }
}

/// A pipe's reading and writing end; neither is inherited but by the program that it is given to.
pub(crate) fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
