//! Carries a process's streams: its output until it has ended and all that it wrote is sent, its input as it comes.

use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, StreamError};
use fcvm_proto::message::{Exit, ProcessEvent, ProcessMessage};
use rustix::process::Signal;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};

/// Our ends of a process's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// What one read may bring: a frame.
const READ: usize = 64 << 10;

/// Carries the streams of process `pid` to its end. Returns whether the other side saw it all.
pub(crate) async fn carry(
    pid: i32,
    pipes: Pipes,
    ended: oneshot::Receiver<Exit>,
    (sender, receiver): (Sender, Receiver),
) -> Result<(), StreamError> {
    let sender = Rc::new(sender);
    let (over, watched) = watch::channel(false);
    let input = tokio::task::spawn_local(input(pid, pipes.stdin, receiver));
    let outputs = async {
        tokio::try_join!(
            output(pipes.stdout, &sender, Lane::Data, watched.clone()),
            output(pipes.stderr, &sender, Lane::Error, watched.clone()),
        )
    };
    let exit = async {
        let exit = ended.await.unwrap_or(Exit::Signal(Signal::KILL.as_raw()));
        let _ = over.send(true);
        exit
    };
    let carried = tokio::select! {
        (carried, exit) = async { tokio::join!(outputs, exit) } => carried.map(|_| exit),
        () = sender.closed() => Err(StreamError::Reset("the client is gone".to_owned())),
    };
    input.abort();
    let exit = carried?;
    sender.message(&ProcessEvent::Exited(exit)).await?;
    if let Ok(sender) = Rc::try_unwrap(sender) {
        sender.finish();
    }
    Ok(())
}

/// Sends what the process writes until the pipe's end, or until the process is over and what is buffered is sent:
/// others may hold the pipe open for ever.
async fn output(
    pipe: pipe::Receiver,
    sender: &Sender,
    lane: Lane,
    mut over: watch::Receiver<bool>,
) -> Result<(), StreamError> {
    let mut buffer = vec![0; READ];
    loop {
        tokio::select! {
            ready = pipe.readable() => if ready.is_err() { return Ok(()) },
            _ = over.wait_for(|over| *over) => return drain(&pipe, sender, lane, &mut buffer).await,
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

/// Gives the process what comes for it, until the stream ends.
async fn input(pid: i32, mut stdin: Option<pipe::Sender>, mut receiver: Receiver) {
    while let Ok(Some(item)) = receiver.recv().await {
        match item.lane {
            Lane::Data => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&item.bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Lane::Message => match item.message() {
                Ok(ProcessMessage::Signal(signal)) => self::signal(pid, signal),
                Ok(ProcessMessage::EndOfInput) => stdin = None,
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
