//! What a process of the guest is attached to on this side: channels, since this room neither reads nor prints.

use bytes::Bytes;
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

/// The other ends of a process's streams. The caller pumps them to its own descriptors, with threads of its own.
#[derive(Debug)]
pub struct Attachment {
    /// Bytes for stdin; the end of the channel is the end of the input. None: the process reads from `/dev/null`.
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    /// Where output goes, beside the log. The channel's bound is the back-pressure; a closed channel ends the process.
    /// None: nowhere.
    pub output: Option<mpsc::Sender<Output>>,
    /// Signals to pass on.
    pub signals: mpsc::Receiver<Signal>,
}

/// How many pieces of at most 64 KiB a channel of an [`Attachment`] holds.
pub const CHANNEL_DEPTH: usize = 8;
