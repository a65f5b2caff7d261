//! Starts a program with pipes of ours, so that its streams can be carried.

use crate::pump::Pipes;
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
pub(crate) fn start(mut command: Command, input: Input) -> io::Result<(i32, Pipes)> {
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
    Ok((child.id() as i32, Pipes { stdin, stdout, stderr }))
}

/// A pipe's reading and writing end; neither is inherited but by the program that it is given to.
pub(crate) fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
