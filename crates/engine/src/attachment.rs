//! What a process of the guest is attached to on this side: channels, since this room neither reads nor prints.

use bytes::Bytes;
use fcvm_proto::message::TerminalSize;
use fcvm_spec::Signal;
use tokio::sync::mpsc;

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Of standard output.
    Stdout(Bytes),
    /// Of standard error.
    Stderr(Bytes),
}

/// What comes from whoever is at a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes for its standard input.
    Bytes(Bytes),
    /// Standard input ends here; a terminal's does not.
    End,
    /// Its terminal has this size now.
    Resize(TerminalSize),
    /// It is left alone, and goes on.
    Detach,
}

/// The other ends of a process's streams. The caller pumps them to its own descriptors, with threads of its own.
#[derive(Debug)]
pub struct Attachment {
    /// What comes for it; the end of the channel is the end of its input. None: nothing does.
    pub input: Option<mpsc::Receiver<Input>>,
    /// Where output goes, beside the log. The channel's bound is the back-pressure; a closed channel ends the process.
    /// None: nowhere.
    pub output: Option<mpsc::Sender<Output>>,
    /// Signals to pass on.
    pub signals: mpsc::Receiver<Signal>,
}

/// How many pieces of at most 64 KiB a channel of an [`Attachment`] holds.
pub const CHANNEL_DEPTH: usize = 8;
