//! File events: what changes on the host is told to the guest, whose agent has its kernel raise inotify events.
//!
//! ```text
//! the host's files ─ inotify ─► watcher ─ less what the guest did itself, each file once ─► queue ─ when asked ─► agent
//! ```
//! Watched are the directories that the guest knows, from the moment on when it is told of them: who looks into a
//! directory in the guest has been told of it before. A guest that goes on with another server's tables has the
//! directories of these watched before the server serves. What the messages are is in [`fcvm_proto::events`].

mod follow;
mod known;
mod own;
mod queue;
mod request;

use crate::message::{Message, opcode};
use crate::tables::Tables;
use fcvm_proto::events::{LONGEST, answer, is_asked};
use follow::{Follow, Heard};
use known::ROOT;
use own::Place;
use request::{BEGINNING, Request};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

pub(crate) use request::concerns;

/// Directories that are watched for one VM.
const WATCHES_MAX: usize = 1 << 16;

/// What happens to a file within this time is told at once and once.
const TOGETHER: Duration = Duration::from_millis(20);

/// Bytes of events that are taken from the host at a time.
const ROOM: usize = 1 << 16;

/// The answers of a volume go out one after the other.
pub(crate) type Outlet = Arc<Mutex<File>>;

/// Who watches the host's files, for all volumes of a VM.
#[derive(Debug)]
pub(crate) struct Watcher {
    inotify: OwnedFd,
    /// Wakes the watcher where no event does.
    knock: OwnedFd,
    is_knocked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    volumes: Vec<(Follow, Outlet)>,
    watches: usize,
    has_complained: bool,
}

/// One volume of a watcher, as its channel has it.
#[derive(Debug)]
pub(crate) struct Followed {
    watcher: Arc<Watcher>,
    volume: usize,
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct UnderWay {
    request: Vec<u8>,
    places: Vec<Place>,
}

impl Watcher {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            knock: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_knocked: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// Follows one volume more, and watches what its guest knows already.
    pub(crate) fn follow(
        self: &Arc<Self>,
        root: &str,
        outlet: Outlet,
        tables: Option<&Tables>,
    ) -> io::Result<Followed> {
        let root = rustix::fs::open(Path::new(root), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let mut follow = Follow::new(root)?;
        follow.known.remember(tables.into_iter().flat_map(Tables::known));
        let numbers = follow.known.numbers();
        let volume = {
            let mut state = self.state();
            state.volumes.push((follow, outlet));
            state.volumes.len() - 1
        };
        self.watch(volume, ROOT);
        numbers.into_iter().for_each(|number| self.watch(volume, number));
        Ok(Followed { watcher: self.clone(), volume })
    }

    /// Starts the thread that watches. A VM whose server cannot watch has its volumes all the same.
    pub(crate) fn start(self: Arc<Self>) -> io::Result<()> {
        let watch = move || {
            if let Err(error) = self.watch_on() {
                eprintln!("volume: what changes on the host is not told any more: {error}");
            }
        };
        thread::Builder::new().name("events".to_owned()).spawn(watch).map(drop)
    }

    fn watch_on(&self) -> io::Result<()> {
        let mut room = vec![MaybeUninit::uninit(); ROOM];
        let soon = Timespec { tv_sec: 0, tv_nsec: TOGETHER.as_nanos() as i64 };
        let mut is_incomplete = false;
        loop {
            let mut awaited = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.knock, PollFlags::IN)];
            match poll(&mut awaited, is_incomplete.then_some(&soon)) {
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            thread::sleep(TOGETHER);
            is_incomplete = self.take_turn(&mut room)?;
            self.tell_all();
        }
    }

    /// Takes all events that are there. True: some say half of something.
    fn take_turn(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<bool> {
        let mut count = [0; 8];
        if self.is_knocked.swap(false, Ordering::AcqRel) {
            let _there_is_none = rustix::io::read(&self.knock, &mut count);
        }
        self.state().volumes.iter_mut().for_each(|(follow, _)| follow.own.begin_turn());
        let mut reader = inotify::Reader::new(&self.inotify, room);
        loop {
            let mut state = self.state();
            // As many as were read at once: requests wait meanwhile.
            loop {
                match reader.next() {
                    Ok(event) => state.hear(&event),
                    Err(Errno::AGAIN) => return Ok(state.pause()),
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                if reader.is_buffer_empty() {
                    break;
                }
            }
        }
    }

    /// Answers those who have asked and for whom there is something.
    fn tell_all(&self) {
        let volumes = self.state().volumes.len();
        for volume in 0..volumes {
            let told = self.state().answer(volume);
            let Some((answer, outlet)) = told else { continue };
            // Whoever the channel belongs to sees that it is broken.
            let _nobody_listens = outlet.lock().unwrap_or_else(PoisonError::into_inner).write_all(&answer);
        }
    }

    /// Watches a directory that the guest knows, if it is there and there is room for it.
    fn watch(&self, volume: usize, number: u64) {
        let opened = {
            let mut state = self.state();
            if state.watches >= WATCHES_MAX {
                return state.complain("the guest knows more directories than are watched");
            }
            state.volumes.get(volume).and_then(|(follow, _)| follow.open(number))
        };
        let Some(opened) = opened else { return };
        let mut state = self.state();
        let mut wanted = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::EXCL_UNLINK;
        if number != ROOT {
            wanted |= WatchFlags::ONLYDIR;
        }
        // Its own number is not to be used for anything else before that is noted, so the lock is held.
        match inotify::add_watch(&self.inotify, format!("/proc/self/fd/{}", opened.as_raw_fd()), wanted) {
            Ok(watch) => {
                let is_new = !state.is_watched(watch);
                if let Some((follow, _)) = state.volumes.get_mut(volume)
                    && follow.known.watch(number, watch)
                    && is_new
                {
                    state.watches += 1;
                }
            }
            Err(Errno::NOSPC) => {
                state.complain("the host allows no more watches (fs.inotify.max_user_watches)");
            }
            // It is gone, is no directory, or may not be read by whoever serves it.
            Err(_) => {}
        }
    }

    fn knock(&self) {
        if !self.is_knocked.swap(true, Ordering::AcqRel) {
            let _it_is_awake = rustix::io::write(&self.knock, &1_u64.to_ne_bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hear(&mut self, event: &inotify::Event<'_>) {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.complain(
                "more changes than the host's kernel keeps (fs.inotify.max_queued_events): some are not told",
            );
        }
        let name = event.file_name().map(std::ffi::CStr::to_bytes).unwrap_or_default();
        let mut is_ended = false;
        // Several volumes may show the same directory.
        for (follow, _) in &mut self.volumes {
            let Some(directory) = follow.known.watched(event.wd()) else { continue };
            if event.events().contains(ReadFlags::IGNORED) {
                follow.known.unwatch(event.wd());
                is_ended = true;
                continue;
            }
            follow.hear(Heard { directory, name, flags: event.events(), cookie: event.cookie() });
        }
        self.watches = self.watches.saturating_sub(usize::from(is_ended));
    }

    fn pause(&mut self) -> bool {
        let mut is_incomplete = false;
        let mut has_lost = false;
        for (follow, _) in &mut self.volumes {
            is_incomplete |= follow.pause();
            follow.own.end_turn();
            has_lost |= follow.queue.has_lost();
        }
        if has_lost {
            self.complain("more changes than the guest takes: some are not told");
        }
        is_incomplete
    }

    /// What is to be told to the guest of a volume that has asked.
    fn answer(&mut self, volume: usize) -> Option<(Vec<u8>, Outlet)> {
        let (follow, outlet) = self.volumes.get_mut(volume)?;
        if !follow.is_asked || follow.queue.is_empty() {
            return None;
        }
        let records = follow.take(LONGEST);
        if records.is_empty() {
            return None;
        }
        follow.is_asked = false;
        Some((answer(&records), outlet.clone()))
    }

    fn is_watched(&self, watch: i32) -> bool {
        self.volumes.iter().any(|(follow, _)| follow.known.watched(watch).is_some())
    }

    /// Once is enough.
    fn complain(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.has_complained, true) {
            eprintln!("volume: not all changes of the host raise events in the guest: {reason}");
        }
    }
}

impl Followed {
    /// Notes what a request is about to do.
    pub(crate) fn begin(&self, message: &Message) -> io::Result<UnderWay> {
        let all = message.opcode()? == opcode::BATCH_FORGET;
        let request = message.beginning(if all { usize::MAX } else { BEGINNING })?;
        let deeds = Request(&request).deeds();
        let places = if deeds.is_empty() {
            Vec::new()
        } else {
            self.watcher.state().volumes.get_mut(self.volume).map(|(follow, _)| follow.begin(deeds)).unwrap_or_default()
        };
        Ok(UnderWay { request, places })
    }

    /// Learns from the answer before the guest has it.
    pub(crate) fn end(&self, under_way: &UnderWay, answer: &[u8]) {
        let lessons = Request(&under_way.request).lessons(answer);
        let fresh = {
            let mut state = self.watcher.state();
            let Some((follow, _)) = state.volumes.get_mut(self.volume) else { return };
            under_way.places.iter().for_each(|place| follow.own.end(place));
            let (fresh, useless) = follow.learn(lessons);
            for watch in useless {
                // Another volume may show the same directory. That it is ended is said once more, of nobody.
                if !state.is_watched(watch) && inotify::remove_watch(&self.watcher.inotify, watch).is_ok() {
                    state.watches = state.watches.saturating_sub(1);
                }
            }
            fresh
        };
        if !under_way.places.is_empty() {
            self.watcher.knock();
        }
        fresh.into_iter().for_each(|number| self.watcher.watch(self.volume, number));
    }

    /// Answers whoever asks for events, now or later; how long the answer is. None: not this version of them.
    pub(crate) fn ask(&self, request: &[u8]) -> Option<Vec<u8>> {
        if !is_asked(request) {
            return None;
        }
        let mut state = self.watcher.state();
        if let Some((follow, _)) = state.volumes.get_mut(self.volume) {
            follow.is_asked = true;
        }
        Some(state.answer(self.volume).map(|(answer, _)| answer).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
