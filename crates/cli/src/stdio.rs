//! Our own descriptors and signals, pumped to and from the engine's channels by plain threads.
//!
//! Threads, since an inherited descriptor must not be made non-blocking: others share it.

use crate::detach::{DetachKeys, Typed, Watch};
use crate::terminal;
use bytes::Bytes;
use fcvm_engine::{Attachment, CHANNEL_DEPTH, Input, Output, Streams};
use fcvm_spec::Signal;
use std::io::{self, Read, Write};
use std::thread::JoinHandle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Whether stdin is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// It is left alone.
    Ignored,
    /// It goes to the process in the guest.
    Read,
    /// It goes to the process's terminal, until these keys are typed.
    Typed(DetachKeys),
}

/// Whether the process in the guest has a terminal that is as large as ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// It has none.
    Ignored,
    /// It has, at any time.
    Followed,
}

/// Which of the process's outputs are shown; its log has all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Shown {
    /// Both.
    pub(crate) const ALL: Self = Self { stdout: true, stderr: true };
    /// Neither: who is at the process is told its id, as in podman.
    pub(crate) const NOTHING: Self = Self { stdout: false, stderr: false };
}

/// Whether signals are passed on to the process in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signals {
    /// They do to this process what they always do.
    Own,
    /// They are passed on.
    Forwarded,
}

/// How this program is at a process in a guest.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) stdin: Stdin,
    pub(crate) size: Size,
    pub(crate) shown: Shown,
    pub(crate) signals: Signals,
}

impl Seat {
    /// The streams of the process that are wanted.
    pub(crate) fn streams(&self) -> Streams {
        let Shown { stdout, stderr } = self.shown;
        Streams { stdin: self.stdin != Stdin::Ignored, stdout, stderr }
    }
}

/// The thread that writes output.
#[derive(Debug)]
pub(crate) struct Writer(JoinHandle<io::Result<()>>);

/// Attaches our descriptors. Called within the runtime.
pub(crate) fn attach(seat: &Seat) -> io::Result<(Attachment, Writer)> {
    let Seat { size, shown, signals, .. } = *seat;
    let (output, outputs) = mpsc::channel(CHANNEL_DEPTH);
    let writer = Writer(std::thread::spawn(move || write(outputs, shown)));
    let (sender, input) = mpsc::channel(CHANNEL_DEPTH);
    if size == Size::Followed {
        follow_size(sender.clone())?;
    }
    let input = (seat.stdin != Stdin::Ignored || size == Size::Followed).then_some(input);
    match seat.stdin.clone() {
        Stdin::Ignored => {}
        Stdin::Read => drop(std::thread::spawn(move || read(&sender, Watch::new(DetachKeys::none())))),
        Stdin::Typed(keys) => drop(std::thread::spawn(move || read(&sender, Watch::new(keys)))),
    }
    let signals = match signals {
        Signals::Own => mpsc::channel(1).1,
        Signals::Forwarded => forward()?,
    };
    Ok((Attachment { input, output: Some(output), signals }, writer))
}

/// Tells the size of our terminal now, and whenever it changes.
fn follow_size(sender: mpsc::Sender<Input>) -> io::Result<()> {
    let mut changes = signal(SignalKind::window_change())?;
    tokio::spawn(async move {
        while sender.send(Input::Resize(terminal::size())).await.is_ok() && changes.recv().await.is_some() {}
    });
    Ok(())
}

/// An attachment to nothing, for a VM in the background.
pub(crate) fn detached(signals: mpsc::Receiver<Signal>) -> Attachment {
    Attachment { input: None, output: None, signals }
}

impl Writer {
    /// Waits until all output has been written. A closed standard output is told by `BrokenPipe`.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("the writer of output failed")))
    }
}

fn write(mut outputs: mpsc::Receiver<Output>, shown: Shown) -> io::Result<()> {
    let (mut stdout, mut stderr) = (raw(rustix::stdio::stdout()), raw(rustix::stdio::stderr()));
    while let Some(output) = outputs.blocking_recv() {
        match output {
            Output::Stdout(bytes) if shown.stdout => stdout.write_all(&bytes)?,
            Output::Stderr(bytes) if shown.stderr => stderr.write_all(&bytes)?,
            Output::Stdout(_) | Output::Stderr(_) => {}
        }
    }
    Ok(())
}

/// A descriptor without a buffer between it and us.
fn raw(fd: std::os::fd::BorrowedFd<'static>) -> impl Write {
    struct Raw(std::os::fd::BorrowedFd<'static>);
    impl Write for Raw {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(rustix::io::write(self.0, bytes)?)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    Raw(fd)
}

fn read(sender: &mpsc::Sender<Input>, mut watch: Watch) {
    let mut buffer = vec![0; 64 << 10];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return drop(sender.blocking_send(Input::End)),
            Ok(length) => {
                let (typed, detached) = match watch.feed(&buffer[..length]) {
                    Typed::Bytes(bytes) => (bytes, false),
                    Typed::Detached(bytes) => (bytes, true),
                };
                let sent = typed.is_empty() || sender.blocking_send(Input::Bytes(Bytes::from(typed))).is_ok();
                if detached {
                    let _it_is_over_anyway = sender.blocking_send(Input::Detach);
                }
                if detached || !sent {
                    return;
                }
            }
        }
    }
}

/// Signals that are passed on: HUP INT QUIT USR1 USR2 ALRM TERM CONT WINCH.
const FORWARDED: [i32; 9] = [1, 2, 3, 10, 12, 14, 15, 18, 28];

/// Catches the signals that are passed on, from now on.
pub(crate) fn forward() -> io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(16);
    for number in FORWARDED {
        let mut caught = signal(SignalKind::from_raw(number))?;
        let Some(named) = Signal::from_number(number) else { continue };
        let sender = sender.clone();
        tokio::spawn(async move { while caught.recv().await.is_some() && sender.send(named).await.is_ok() {} });
    }
    Ok(receiver)
}
