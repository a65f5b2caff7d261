//! The terminal that this program was started at: raw as long as someone is at a process of a guest, and as it was before
//! on every way out of that.

use crate::error::Failure;
use crate::stdio::Signals;
use fcvm_proto::message::TerminalSize;
use rustix::process::Signal;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Raw mode: keys go to the guest as bytes, what comes is shown as it comes. Dropped, also by a panic, all is as before.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        if !isatty(rustix::stdio::stdin()) {
            return Ok(None);
        }
        let raw = Self { before: tcgetattr(rustix::stdio::stdin())? };
        raw.again()?;
        Ok(Some(raw))
    }

    /// Makes it raw once more: a shell that had stopped this program has its own mode there.
    pub(crate) fn again(&self) -> io::Result<()> {
        if !is_ours() {
            return Ok(());
        }
        let mut raw = self.before.clone();
        raw.make_raw();
        Ok(tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?)
    }
}

/// Whether the terminal is ours to change: the kernel stops a program in the background that does, and a shell that has
/// put it there has the terminal as it wants it.
fn is_ours() -> bool {
    // One that controls nobody stops nobody.
    tcgetpgrp(rustix::stdio::stdin()).map_or(true, |group| group == rustix::process::getpgrp())
}

impl Drop for Raw {
    fn drop(&mut self) {
        if !is_ours() {
            return;
        }
        if let Err(error) = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before) {
            tracing::debug!(%error, "the terminal is gone");
        }
    }
}

/// Whether someone sits there: standard input and output are a terminal.
pub(crate) fn is_there() -> bool {
    isatty(rustix::stdio::stdin()) && isatty(rustix::stdio::stdout())
}

/// How large the terminal is; nothing is known of one that is not there.
pub(crate) fn size() -> TerminalSize {
    let size = tcgetwinsize(rustix::stdio::stdin()).or_else(|_| tcgetwinsize(rustix::stdio::stdout()));
    size.map_or(TerminalSize::default(), |size| TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// Signals that end a program: SIGHUP, SIGINT, SIGQUIT, SIGTERM. None of them comes by a key of a raw terminal.
const ENDING: [u8; 4] = [1, 2, 3, 15];

/// Does something while the terminal is raw. A signal of our own that ends this program ends the work instead, with the code that a
/// shell shows for that, so that the terminal is restored on the way out.
pub(crate) async fn unless_ended<T>(
    raw: Option<&Raw>,
    signals: Signals,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let Some(raw) = raw else { return Ok(work.await) };
    let mut continued = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let (sender, mut ended) = mpsc::channel(1);
    for number in ENDING.into_iter().filter(|_| signals == Signals::Own) {
        let (mut caught, sender) = (signal(SignalKind::from_raw(number.into()))?, sender.clone());
        tokio::spawn(async move {
            if caught.recv().await.is_some() {
                let _ = sender.send(number).await;
            }
        });
    }
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            Some(number) = ended.recv() => return Err(Failure::with_code(128 + number, "")),
            Some(()) = continued.recv() => raw.again()?,
        }
    }
}
