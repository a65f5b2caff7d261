//! The events of one volume: asked for at the host, raised in the guest.
//!
//! No more are asked for before those that came were raised. In a life that follows another the agent asks anew, once
//! what it was about is done.

use super::raise::{self, Scene};
use super::requests::{Requests, Treatment, thread};
use fcvm_proto::events::{Event, answered, ask};
use rustix::fd::OwnedFd;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::{Arc, mpsc};

/// The events of one volume.
#[derive(Debug)]
pub(super) struct Events {
    scene: Arc<Scene>,
    requests: RefCell<Requests>,
    raising: RefCell<Raising>,
    asking: Cell<Asking>,
}

/// Who raises them.
#[derive(Debug)]
enum Raising {
    /// A mount of the volume is all that is needed.
    Possible(OwnedFd),
    Thread(mpsc::Sender<Vec<Event>>),
    Impossible,
}

/// Whether the host was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    Due,
    Done,
    /// It tells nothing, or nothing can be done about what it tells.
    Useless,
}

impl Events {
    /// `tree` is a mount of the volume that nobody else has. Without it there are no events.
    pub(super) fn new(tree: Option<OwnedFd>) -> Self {
        Self {
            scene: Arc::default(),
            requests: RefCell::default(),
            raising: tree.map_or(Raising::Impossible, Raising::Possible).into(),
            asking: Cell::new(Asking::Due),
        }
    }

    /// Another stream carries the volume.
    pub(super) fn begin(&self) {
        let is_possible = !matches!(*self.raising.borrow(), Raising::Impossible);
        self.asking.set(if is_possible { Asking::Due } else { Asking::Useless });
    }

    /// What was asked on the last stream is not answered any more.
    pub(super) fn give_up(&self) {
        self.requests.borrow_mut().give_up();
    }

    /// Waits for what the host is to hear of the agent's own. Cancelled, it has taken nothing.
    pub(super) async fn outgoing(&self) -> Vec<u8> {
        loop {
            let changed = self.scene.changed.notified();
            if let Some(message) = self.requests.borrow_mut().outgoing.pop_front() {
                return message;
            }
            if self.asking.get() == Asking::Due && !self.scene.is_busy() {
                self.asking.set(Asking::Done);
                return ask();
            }
            changed.await;
        }
    }

    /// Decides about a request of the kernel.
    pub(super) fn treat(&self, request: Vec<u8>) -> Treatment {
        let act = self.scene.act(thread(&request));
        self.requests.borrow_mut().treat(request, act.as_ref())
    }

    /// What the kernel is told of what the host has answered.
    pub(super) fn settle<'a>(&self, answer: &'a [u8]) -> Cow<'a, [u8]> {
        let mut requests = self.requests.borrow_mut();
        let settled = requests.settle(answer);
        if !requests.outgoing.is_empty() {
            self.scene.changed.notify_one();
        }
        settled
    }

    /// Has the events raised that the host has told.
    pub(super) fn take(&self, answer: &[u8]) {
        let Some(events) = answered(answer).filter(|events| !events.is_empty()) else {
            return self.asking.set(Asking::Useless);
        };
        self.scene.begin();
        let is_raising = self.thread().is_some_and(|thread| thread.send(events).is_ok());
        self.asking.set(if is_raising { Asking::Due } else { Asking::Useless });
    }

    fn thread(&self) -> Option<mpsc::Sender<Vec<Event>>> {
        let raising = self.raising.replace(Raising::Impossible);
        let thread = match raising {
            Raising::Possible(tree) => raise::start(tree, self.scene.clone()).ok()?,
            Raising::Thread(thread) => thread,
            Raising::Impossible => return None,
        };
        self.raising.replace(Raising::Thread(thread.clone()));
        Some(thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_proto::events::{ASK, Changes, What, answer};
    use std::fs::File;
    use std::future::ready;

    /// What is to be said now.
    async fn now(events: &Events) -> Option<Vec<u8>> {
        tokio::select! { biased; message = events.outgoing() => Some(message), () = ready(()) => None }
    }

    #[tokio::test]
    async fn events_are_asked_for_again_when_those_that_came_were_raised() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::new(Some(File::open(dir.path()).unwrap().into()));
        events.begin();
        assert_eq!(now(&events).await, Some(ask()));
        assert_eq!(now(&events).await, None);
        let event =
            Event { directory: 1, name: b"file".to_vec(), kind: 0o100_000, what: What::Created(Changes::default()) };
        let mut records = Vec::new();
        event.encode(&mut records);
        events.take(&answer(&records));
        assert_eq!(events.outgoing().await, ask());
        assert!(dir.path().join("file").is_file());
    }

    #[tokio::test]
    async fn a_host_that_tells_nothing_is_not_asked_again_in_this_life() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::new(Some(File::open(dir.path()).unwrap().into()));
        let refused = [&16_u32.to_ne_bytes()[..], &(-38_i32).to_ne_bytes(), &ASK.to_ne_bytes()].concat();
        for nothing in [refused, answer(&[])] {
            events.begin();
            assert_eq!(now(&events).await, Some(ask()));
            events.take(&nothing);
            assert_eq!(now(&events).await, None);
        }
        let impossible = Events::new(None);
        impossible.begin();
        assert_eq!(now(&impossible).await, None);
    }
}
