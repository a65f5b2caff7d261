//! The container's streams and everyone who is at them from another process: what it writes goes to each, what any of
//! them types goes to it.
//!
//! Nobody who reads slowly holds up the container: of what does not fit a client's queue the oldest is left out there, so
//! that who looks up sees how things are now, and the client is told how much that was. The log has all of it.

use crate::run::put;
use crate::{Input, Output};
use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, Stream, StreamError};
use fcvm_proto::message::{ProcessEvent, ProcessMessage};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// How many bytes wait for one client at most.
const QUEUE: usize = 1 << 20;

/// Which of the container's streams a client is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// What it sends is typed.
    pub stdin: bool,
    /// It hears standard output, or all that is written to a terminal.
    pub stdout: bool,
    /// It hears standard error.
    pub stderr: bool,
}

/// The owner's end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    crowd: Mutex<Crowd>,
    /// What carries input to the container that runs now.
    container: watch::Sender<Option<Arc<Sender>>>,
    /// How many clients there are.
    present: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Crowd {
    clients: Vec<Arc<Client>>,
    /// How the container has ended.
    end: Option<ProcessEvent>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { crowd: Mutex::default(), container: watch::Sender::new(None), present: watch::Sender::new(0) }
    }
}

impl Console {
    /// Waits for the first client.
    pub(crate) async fn attended(&self) {
        // It cannot fail: the sender is in `self`.
        drop(self.0.present.subscribe().wait_for(|number| *number > 0).await);
    }

    /// Waits until every client has heard the end and is gone.
    pub(crate) async fn left(&self) {
        drop(self.0.present.subscribe().wait_for(|number| *number == 0).await);
    }

    /// From now on what is typed goes to this container.
    pub(crate) fn connect(&self, container: Arc<Sender>) {
        self.crowd().end = None;
        self.0.container.send_replace(Some(container));
    }

    /// Carries what comes to whichever container runs: what came between two is the next one's, and the end of all is told
    /// to every further one.
    pub(crate) async fn feed(self, input: Option<mpsc::Receiver<Input>>) {
        let Some(mut input) = input else { return };
        let mut containers = self.0.container.subscribe();
        loop {
            // It cannot fail: the sender is in `self`.
            let Ok(container) = containers.wait_for(Option::is_some).await.map(|container| container.clone()) else {
                return;
            };
            let Some(container) = container else { continue };
            tokio::select! {
                biased;
                () = container.closed() => {}
                () = carry_on(&container, &mut input) => {}
            }
            if containers.changed().await.is_err() {
                return;
            }
        }
    }

    /// Shows what the container wrote.
    pub(crate) fn write(&self, output: &Output) {
        for client in &self.crowd().clients {
            client.push(output);
        }
    }

    /// Tells everyone how it ended, also those who come before another runs.
    pub(crate) fn end(&self, event: ProcessEvent) {
        self.0.container.send_replace(None);
        let mut crowd = self.crowd();
        for client in crowd.clients.drain(..) {
            client.end(event.clone());
        }
        crowd.end = Some(event);
    }

    /// Serves a client until it goes or the container has ended.
    pub(crate) async fn serve(&self, stream: Stream, streams: Streams) {
        let (sender, receiver) = stream.split();
        let client = Arc::new(Client { streams, queue: Mutex::default(), more: Notify::new() });
        self.welcome(client.clone());
        let _present = Presence::of(&self.0.present);
        let mut heard = std::pin::pin!(self.hear(receiver, streams));
        tokio::select! {
            carried = client.carry(sender) => if carried.is_ok() {
                // All is sent; the client is gone when it has heard that.
                heard.await;
            },
            () = &mut heard => {}
        }
        self.crowd().clients.retain(|known| !Arc::ptr_eq(known, &client));
    }

    fn welcome(&self, client: Arc<Client>) {
        let mut crowd = self.crowd();
        match &crowd.end {
            Some(event) => client.end(event.clone()),
            None => crowd.clients.push(client),
        }
    }

    /// Takes what a client types, until it is gone or says that it goes: the container has then what came before.
    async fn hear(&self, mut receiver: Receiver, streams: Streams) {
        loop {
            let item = match receiver.recv().await {
                Ok(Some(item)) => item,
                // It types no more, and hears on.
                Ok(None) => std::future::pending().await,
                Err(_) => return,
            };
            let message = (item.lane == Lane::Message).then(|| item.message::<ProcessMessage>().ok()).flatten();
            if matches!(message, Some(ProcessMessage::Detach)) {
                return;
            }
            // None runs yet, or any more.
            let Some(container) = self.0.container.borrow().clone() else { continue };
            // That the container ends or is replaced meanwhile is no fault of the client's.
            let _sent = match item.lane {
                Lane::Data if streams.stdin => container.send(Lane::Data, item.bytes).await,
                Lane::Message => pass_on(&container, message, streams).await,
                Lane::Data | Lane::Error => Ok(()),
            };
        }
    }

    fn crowd(&self) -> MutexGuard<'_, Crowd> {
        self.0.crowd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries what comes to one container, and then its end.
async fn carry_on(container: &Sender, input: &mut mpsc::Receiver<Input>) {
    while let Some(piece) = input.recv().await {
        if put(container, piece).await.is_err() {
            return;
        }
    }
    let _sent = put(container, Input::End).await;
    container.closed().await;
}

/// Signals do not come this way: they would wait behind input.
async fn pass_on(container: &Sender, message: Option<ProcessMessage>, streams: Streams) -> Result<(), StreamError> {
    match message {
        Some(message @ ProcessMessage::Resize(_)) => container.message(&message).await,
        Some(message @ ProcessMessage::EndOfInput) if streams.stdin => container.message(&message).await,
        _ => Ok(()),
    }
}

/// That a client is there; until it is dropped, also with the task that serves it.
struct Presence<'p>(&'p watch::Sender<usize>);

impl<'p> Presence<'p> {
    fn of(present: &'p watch::Sender<usize>) -> Self {
        present.send_modify(|number| *number += 1);
        Self(present)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|number| *number -= 1);
    }
}

/// Someone who hears what the container writes.
#[derive(Debug)]
struct Client {
    streams: Streams,
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<(Lane, Bytes)>,
    /// Bytes in `pieces`.
    held: usize,
    /// Bytes that were left out just before the first of them.
    left_out: u64,
    end: Option<ProcessEvent>,
}

/// What a client is told.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Written(Lane, Bytes),
    LeftOut(u64),
    Ended(ProcessEvent),
}

impl Client {
    fn push(&self, output: &Output) {
        let (wanted, lane, bytes) = match output {
            Output::Stdout(bytes) => (self.streams.stdout, Lane::Data, bytes),
            Output::Stderr(bytes) => (self.streams.stderr, Lane::Error, bytes),
        };
        if wanted {
            self.lock().push(lane, bytes);
            self.more.notify_one();
        }
    }

    fn end(&self, event: ProcessEvent) {
        self.lock().end = Some(event);
        self.more.notify_one();
    }

    /// Sends what there is as fast as it is taken, to the end. Fails when the client is gone.
    async fn carry(&self, sender: Sender) -> Result<(), StreamError> {
        loop {
            let piece = self.lock().pop();
            match piece {
                Some(Piece::Written(lane, bytes)) => sender.send(lane, bytes).await?,
                Some(Piece::LeftOut(bytes)) => sender.send(Lane::Error, notice(bytes)).await?,
                Some(Piece::Ended(event)) => {
                    sender.message(&event).await?;
                    sender.finish();
                    return Ok(());
                }
                None => tokio::select! {
                    () = self.more.notified() => {}
                    () = sender.closed() => return Err(StreamError::Reset("the client is gone".to_owned())),
                },
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes a piece. If there is no room, the older half makes some: a client hears of few large holes, not of many small
    /// ones.
    fn push(&mut self, lane: Lane, bytes: &Bytes) {
        if self.held + bytes.len() > QUEUE {
            while self.held > QUEUE / 2 {
                let Some((_, oldest)) = self.take() else { break };
                self.left_out += oldest.len() as u64;
            }
        }
        self.held += bytes.len();
        self.pieces.push_back((lane, bytes.clone()));
    }

    fn pop(&mut self) -> Option<Piece> {
        if self.left_out > 0 {
            return Some(Piece::LeftOut(std::mem::take(&mut self.left_out)));
        }
        let written = self.take().map(|(lane, bytes)| Piece::Written(lane, bytes));
        written.or_else(|| self.end.take().map(Piece::Ended))
    }

    fn take(&mut self) -> Option<(Lane, Bytes)> {
        let piece = self.pieces.pop_front()?;
        self.held -= piece.1.len();
        Some(piece)
    }
}

/// A line of its own, on a raw terminal too.
fn notice(bytes: u64) -> Bytes {
    format!("\r\n[fcvm: {bytes} bytes were left out here; fcvm logs has them]\r\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: usize) -> Bytes {
        vec![b'x'; length].into()
    }

    #[test]
    fn what_fits_is_told_in_order_and_then_the_end() {
        let mut queue = Queue::default();
        queue.push(Lane::Data, &bytes(3));
        queue.push(Lane::Error, &bytes(2));
        queue.end = Some(ProcessEvent::OutOfMemory);
        assert_eq!(queue.pop(), Some(Piece::Written(Lane::Data, bytes(3))));
        assert_eq!(queue.pop(), Some(Piece::Written(Lane::Error, bytes(2))));
        assert_eq!(queue.pop(), Some(Piece::Ended(ProcessEvent::OutOfMemory)));
        assert_eq!((queue.pop(), queue.held), (None, 0));
    }

    #[test]
    fn a_slow_client_is_told_once_how_much_it_has_missed_and_where_and_sees_what_is_new() {
        let mut queue = Queue::default();
        for _ in 0..4 {
            queue.push(Lane::Data, &bytes(QUEUE / 4));
        }
        queue.push(Lane::Data, &bytes(7));
        assert_eq!(queue.held, QUEUE / 2 + 7);
        assert_eq!(queue.pop(), Some(Piece::LeftOut(QUEUE as u64 / 2)));
        for _ in 0..2 {
            assert_eq!(queue.pop(), Some(Piece::Written(Lane::Data, bytes(QUEUE / 4))));
        }
        assert_eq!(queue.pop(), Some(Piece::Written(Lane::Data, bytes(7))));
        assert_eq!((queue.pop(), queue.held), (None, 0));
    }

    #[test]
    fn what_comes_last_is_told_whole_before_the_end() {
        let mut queue = Queue::default();
        queue.push(Lane::Data, &bytes(QUEUE));
        queue.push(Lane::Data, &bytes(3));
        queue.end = Some(ProcessEvent::OutOfMemory);
        assert_eq!(queue.pop(), Some(Piece::LeftOut(QUEUE as u64)));
        assert_eq!(queue.pop(), Some(Piece::Written(Lane::Data, bytes(3))));
        assert_eq!(queue.pop(), Some(Piece::Ended(ProcessEvent::OutOfMemory)));
    }
}
