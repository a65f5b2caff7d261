//! What the handles of a session and its driver share: the machine of the `proto` room, and who waits for what.
//!
//! One plain mutex around all of it; nobody waits while holding it. Who is to be woken is woken after it was released.

use crate::session::Ended;
use fcvm_proto::session::{Event, MAX_STREAMS, Mux, Role, StreamId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// Accepted and opened streams whose handles may be held at once; further ones of the peer are reset.
const MAX_HELD: usize = 4 * MAX_STREAMS;

#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mux: Mux,
    held: HashMap<StreamId, Held>,
    pub(crate) ended: Option<Ended>,
    /// The session is to end after what was sent has been written.
    pub(crate) closing: bool,
    /// Nobody accepts streams.
    pub(crate) deaf: bool,
    pub(crate) driver: Waiters,
    pub(crate) acceptor: Waiters,
    pub(crate) enders: Waiters,
}

/// A stream of which a handle exists.
#[derive(Debug)]
pub(crate) struct Held {
    handles: u8,
    pub(crate) reset: Option<Arc<str>>,
    pub(crate) reader: Waiters,
    pub(crate) writers: Waiters,
    pub(crate) watchers: Waiters,
}

/// Tasks that wait for one thing.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waker>);

impl Waiters {
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    fn join(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    pub(crate) fn new(role: Role) -> Self {
        Self(Arc::new(Mutex::new(State {
            mux: Mux::new(role),
            held: HashMap::new(),
            ended: None,
            closing: false,
            deaf: false,
            driver: Waiters::default(),
            acceptor: Waiters::default(),
            enders: Waiters::default(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the driver if that left something to send.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, driver) = {
            let mut state = self.lock();
            let result = change(&mut state);
            let driver = if state.mux.has_output() || state.closing { state.driver.take() } else { Waiters::default() };
            (result, driver)
        };
        driver.wake();
        result
    }

    /// Resets a stream and tells those who wait for it. After the session has ended it does nothing: what had arrived
    /// stays to be taken.
    pub(crate) fn reset(&self, id: StreamId, reason: &str) {
        let waiters = self.change(|state| {
            if state.ended.is_some() {
                return Waiters::default();
            }
            state.mux.reset(id, reason);
            state.was_reset(id, reason)
        });
        waiters.wake();
    }

    /// Ends the session, if it has not ended before.
    pub(crate) fn end(&self, why: Ended) {
        let waiters = {
            let mut state = self.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(why);
            let mut waiters = state.acceptor.take();
            waiters.join(state.enders.take());
            for held in state.held.values_mut() {
                waiters.join(held.all());
            }
            waiters
        };
        waiters.wake();
    }
}

impl State {
    /// Notes that a stream has two handles.
    pub(crate) fn hold(&mut self, id: StreamId) {
        self.held.insert(
            id,
            Held {
                handles: 2,
                reset: None,
                reader: Waiters::default(),
                writers: Waiters::default(),
                watchers: Waiters::default(),
            },
        );
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.held.len() >= MAX_HELD
    }

    pub(crate) fn held(&mut self, id: StreamId) -> &mut Held {
        self.held.get_mut(&id).expect("a stream is held as long as it has a handle")
    }

    /// Notes that one of a stream's handles is gone. What that leaves is to be dropped after the lock: a waker may own
    /// the last reference to a task, and that task another handle.
    pub(crate) fn release(&mut self, id: StreamId) -> Option<Held> {
        let held = self.held(id);
        held.handles -= 1;
        if held.handles == 0 { self.held.remove(&id) } else { None }
    }

    /// Who is to be woken by what the mux has noticed.
    pub(crate) fn notice(&mut self) -> Waiters {
        let mut waiters = Waiters::default();
        while let Some(event) = self.mux.event() {
            waiters.join(match event {
                Event::Opened => self.acceptor.take(),
                Event::Readable(id) => self.held.get_mut(&id).map(|held| held.reader.take()).unwrap_or_default(),
                Event::Writable(id) => self.held.get_mut(&id).map(|held| held.writers.take()).unwrap_or_default(),
                Event::Reset(id, reason) => self.was_reset(id, &reason),
            });
        }
        if self.deaf {
            while let Some((id, _)) = self.mux.accept() {
                self.mux.reset(id, "nobody accepts streams here");
            }
        }
        waiters
    }

    fn was_reset(&mut self, id: StreamId, reason: &str) -> Waiters {
        let Some(held) = self.held.get_mut(&id) else { return Waiters::default() };
        held.reset.get_or_insert_with(|| reason.into());
        held.all()
    }
}

impl Held {
    fn all(&mut self) -> Waiters {
        let mut waiters = self.reader.take();
        waiters.join(self.writers.take());
        waiters.join(self.watchers.take());
        waiters
    }
}
