//! The use case of being at a container that another process owns: [`crate::console`] is the owner's end of it.

use crate::console::Streams;
use crate::control::{Client, Command};
use crate::ops::{connect, done, follow, until_free};
use crate::run::put;
use crate::{Attachment, CHANNEL_DEPTH, Engine, Error, ExecOutcome, Input, Output};
use fcvm_link::{Sender, Stream};
use fcvm_spec::Signal;
use fcvm_store::VmDir;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a container that reads nothing of what was typed may hold up who leaves it.
const LEAVING: Duration = Duration::from_secs(2);

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
            biased;
            // First: the owner ends the stream of who leaves.
            () = type_in(&sender, input, LEAVING) => return Ok(ExecOutcome::Detached),
            outcome = follow(receiver, output.clone()) => outcome,
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

/// Sends what is typed; ends when the container is left alone, and has what was typed before that.
async fn type_in(sender: &Sender, input: Option<mpsc::Receiver<Input>>, patience: Duration) {
    let Some(input) = input else { return std::future::pending().await };
    let (to, pieces) = mpsc::channel(CHANNEL_DEPTH);
    tokio::select! {
        () = put_all(sender, pieces) => {}
        () = leave(input, to, patience) => {}
    }
}

/// Sends piece after piece. The last word of who leaves comes behind all that was typed before: that the owner ends the
/// stream for it means that the container has that.
async fn put_all(sender: &Sender, mut pieces: mpsc::Receiver<Input>) {
    while let Some(piece) = pieces.recv().await {
        let leaves = piece == Input::Detach;
        // Where it fails, the other direction tells why.
        let sent = put(sender, piece).await;
        if leaves {
            return if sent.is_ok() {
                sender.closed().await
            };
        }
    }
    std::future::pending().await
}

/// Looks for the last word while what was typed before may be waiting; ends when that has waited long enough.
async fn leave(mut input: mpsc::Receiver<Input>, to: mpsc::Sender<Input>, patience: Duration) {
    while let Some(piece) = input.recv().await {
        if piece == Input::Detach {
            let _sent = tokio::join!(to.send(piece), tokio::time::sleep(patience));
            return;
        }
        if to.send(piece).await.is_err() {
            break;
        }
    }
    let _sent = to.send(Input::End).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Console;
    use crate::link::in_memory;
    use bytes::Bytes;
    use fcvm_link::Receiver;
    use std::sync::Arc;

    const TYPIST: Streams = Streams { stdin: true, stdout: true, stderr: true };

    /// A client's stream to an owner whose console is at a container; what the container is given comes by the receiver.
    async fn seated() -> (Stream, Receiver, impl Sized) {
        let ((client, _), (owner, mut clients)) = in_memory(4 << 10);
        let ((to_guest, _), (guest, mut requests)) = in_memory(4 << 10);
        let (container, from_container) = to_guest.open(&"start").unwrap().split();
        let (guests, given) = requests.accept().await.unwrap().stream.split();
        let console = Console::default();
        console.connect(Arc::new(container));
        let stream = client.open(&"attach").unwrap();
        let opened = clients.accept().await.unwrap();
        let served = console.clone();
        tokio::spawn(async move { served.serve(opened.stream, TYPIST).await });
        let kept = (client, owner, to_guest, guest, from_container, guests, console, clients, requests);
        (stream, given, kept)
    }

    fn typed(pieces: &[Input]) -> mpsc::Receiver<Input> {
        let (sender, input) = mpsc::channel(CHANNEL_DEPTH);
        for piece in pieces {
            sender.try_send(piece.clone()).unwrap();
        }
        // A terminal is there for ever.
        std::mem::forget(sender);
        input
    }

    #[tokio::test]
    async fn what_was_typed_before_leaving_reaches_the_container() {
        let (stream, mut given, _kept) = seated().await;
        let (sender, receiver) = stream.split();
        let text = Bytes::from(vec![b'x'; 60_000]);
        let input = typed(&[Input::Bytes(text.clone()), Input::Bytes("end".into()), Input::Detach]);
        type_in(&sender, Some(input), Duration::from_secs(3600)).await;
        drop((sender, receiver));
        let mut all = Vec::new();
        while all.len() < text.len() + 3 {
            all.extend_from_slice(&given.recv().await.unwrap().unwrap().bytes);
        }
        assert!(all.ends_with(b"xend"));
    }

    #[tokio::test]
    async fn a_container_that_reads_nothing_holds_up_nobody_for_ever() {
        let (stream, _given, _kept) = seated().await;
        let (sender, _receiver) = stream.split();
        // More than all windows on the way hold.
        let mut pieces = vec![Input::Bytes(vec![0; 200_000].into()); CHANNEL_DEPTH - 1];
        pieces.push(Input::Detach);
        type_in(&sender, Some(typed(&pieces)), Duration::from_millis(1)).await;
    }
}
