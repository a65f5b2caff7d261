//! The container's stream: its output to the log and to whoever is attached, its input from them.

use crate::console::Console;
use crate::{Input, Output};
use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, StreamError};
use fcvm_proto::message::{Exit, ProcessEvent, ProcessMessage};
use fcvm_store::log::{LogWriter, Source};
use std::sync::Arc;
use tokio::sync::mpsc;

/// How the container's stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContainerEnd {
    /// The container ended.
    Exited {
        exit: Exit,
        /// The kernel killed one of its processes for want of memory.
        oom_killed: bool,
    },
    /// It could not be started.
    NotStarted { code: u8, reason: String },
    /// What it was started for is done.
    Done,
    /// Nobody reads its output any more.
    Unread,
    /// Somebody in the guest reset the machine, past the agent.
    Reset,
    /// The stream ended without a word.
    Lost(String),
}

/// Carries output until the container ends. One task, so that a slow reader holds up nothing else.
pub(super) async fn pump_output(
    mut receiver: Receiver,
    mut log: LogWriter,
    output: Option<mpsc::Sender<Output>>,
    console: Console,
) -> ContainerEnd {
    let mut oom_killed = false;
    loop {
        let item = match receiver.recv().await {
            Ok(Some(item)) => item,
            Ok(None) => return ContainerEnd::Lost("its stream ended early".to_owned()),
            Err(error) => return ContainerEnd::Lost(error.to_string()),
        };
        let source = match item.lane {
            Lane::Data => Source::Stdout,
            Lane::Error => Source::Stderr,
            Lane::Message => match item.message() {
                Ok(ProcessEvent::Started { .. }) => continue,
                Ok(ProcessEvent::OutOfMemory) => {
                    oom_killed = true;
                    continue;
                }
                Ok(ProcessEvent::Exited(exit)) => return ContainerEnd::Exited { exit, oom_killed },
                Ok(ProcessEvent::Failed { code, reason }) => return ContainerEnd::NotStarted { code, reason },
                Ok(ProcessEvent::Detached) => return ContainerEnd::Lost("the guest let go of it".to_owned()),
                Err(error) => return ContainerEnd::Lost(format!("the guest sent nonsense: {error}")),
            },
        };
        // A full disk must not stop the container: what is attached goes on.
        if let Err(error) = log.write(source, &item.bytes) {
            tracing::warn!(%error, "output is missing from the log");
        }
        let piece = piece(source, item.bytes);
        console.write(&piece);
        if let Some(output) = &output
            && output.send(piece).await.is_err()
        {
            return ContainerEnd::Unread;
        }
    }
}

pub(crate) fn piece(source: Source, bytes: Bytes) -> Output {
    match source {
        Source::Stdout => Output::Stdout(bytes),
        Source::Stderr => Output::Stderr(bytes),
    }
}

/// Carries input until the other side is gone. Signals do not travel here: they would wait behind input that nobody reads.
pub(crate) async fn pump_input(sender: Arc<Sender>, input: Option<mpsc::Receiver<Input>>) {
    if let Some(mut input) = input {
        while let Some(piece) = receive(&mut input, &sender).await {
            if put(&sender, piece).await.is_err() {
                return;
            }
        }
        let _ = put(&sender, Input::End).await;
    }
    sender.closed().await;
}

/// Sends what came from whoever is at a process.
pub(crate) async fn put(sender: &Sender, input: Input) -> Result<(), StreamError> {
    match input {
        Input::Bytes(bytes) => sender.send(Lane::Data, bytes).await,
        Input::End => sender.message(&ProcessMessage::EndOfInput).await,
        Input::Resize(size) => sender.message(&ProcessMessage::Resize(size)).await,
        Input::Detach => sender.message(&ProcessMessage::Detach).await,
    }
}

async fn receive(input: &mut mpsc::Receiver<Input>, sender: &Sender) -> Option<Input> {
    tokio::select! {
        piece = input.recv() => piece,
        () = sender.closed() => None,
    }
}
