//! The use case of being at a container that another process owns: [`crate::console`] is the owner's end of it.

use crate::console::Streams;
use crate::control::{Client, Command};
use crate::ops::{connect, done, follow, until_free};
use crate::run::put;
use crate::{Attachment, Engine, Error, ExecOutcome, Input, Output};
use fcvm_link::{Sender, Stream};
use fcvm_spec::Signal;
use fcvm_store::VmDir;
use tokio::sync::mpsc;

/// A client that hears what the container writes, from now on.
#[derive(Debug)]
pub struct Attached {
    dir: VmDir,
    client: Client,
    stream: Stream,
}

impl Engine {
    /// Attaches to a VM's container, which may not have started yet.
    pub async fn attach(&self, vm: &str, streams: Streams) -> Result<Attached, Error> {
        let dir = self.store().find_vm(vm)?;
        let client = connect(&dir, vm).await?;
        let stream = client.open(&Command::Attach(streams))?;
        Ok(Attached { dir, client, stream })
    }
}

impl Attached {
    /// Carries what comes and goes until the container has ended, and its VM with it, or is left alone.
    pub async fn carry(self, attachment: Attachment) -> Result<ExecOutcome, Error> {
        let Self { dir, client, stream } = self;
        let (sender, receiver) = stream.split();
        let Attachment { input, output, signals } = attachment;
        let outcome = tokio::select! {
            outcome = follow(receiver, output.clone()) => outcome,
            () = type_in(&sender, input) => return Ok(ExecOutcome::Detached),
            () = pass_on(&client, signals) => unreachable!("it waits for more"),
        };
        // The owner waits for this client to go.
        drop((sender, client));
        match outcome {
            Err(Error::Lost) => ended_before(&dir, output).await,
            Ok(ExecOutcome::Unread) => Ok(ExecOutcome::Unread),
            outcome => until_free(&dir).await.and(outcome),
        }
    }
}

/// The end for a client that read so late that nobody waited for it any more: as the record has it, if it has.
async fn ended_before(dir: &VmDir, output: Option<mpsc::Sender<Output>>) -> Result<ExecOutcome, Error> {
    until_free(dir).await?;
    let ended = dir.record()?.ended.ok_or(Error::Lost)?;
    if let Some(output) = output {
        let notice = "\r\n[fcvm: what was written last was left out here; fcvm logs has it]\r\n";
        let _nobody_reads = output.send(Output::Stderr(notice.into())).await;
    }
    Ok(ExecOutcome::Exited(ended.code))
}

/// Sends what is typed; ends when the container is left alone.
async fn type_in(sender: &Sender, input: Option<mpsc::Receiver<Input>>) {
    let Some(mut input) = input else { return std::future::pending().await };
    while let Some(piece) = input.recv().await {
        if piece == Input::Detach {
            return;
        }
        // The other direction tells why.
        let _sent = put(sender, piece).await;
    }
    let _sent = put(sender, Input::End).await;
    std::future::pending().await
}

/// Passes signals on by a way of their own: they would wait behind input that nobody reads.
async fn pass_on(client: &Client, mut signals: mpsc::Receiver<Signal>) {
    while let Some(signal) = signals.recv().await {
        let request = Command::Kill { signal: signal.number(), all: false };
        if let Err(error) = done(client.ask(&request).await) {
            tracing::debug!(%error, %signal, "a signal did not reach the container");
        }
    }
    std::future::pending().await
}
