//! The thread that raises the events of one volume: for each it makes the call that would have had it.
//!
//! It waits for the agent as any other program does that uses the volume, and nothing waits for it: a machine may be saved
//! in the middle of a call, which goes on in each that starts from there. A call that fails is an event that is not
//! raised: the file is something else by now, or gone, and of that another event tells.

use super::requests::Act;
use fcvm_proto::events::{Changes, Event, What};
use fcvm_sys::guest::open_node;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, mkdirat, mknodat,
    openat, renameat, statx, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, Result};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::Notify;

/// The number of a volume's root.
const ROOT: u64 = 1;

const STACK: usize = 128 << 10;

/// What the agent and the thread tell each other.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// The thread's number; none has zero.
    thread: AtomicU32,
    act: Mutex<Option<Act>>,
    is_busy: AtomicBool,
    /// The thread has become idle, or something else is to be said to the host.
    pub(super) changed: Notify,
}

impl Scene {
    /// What the thread of this number is about. None: it is another thread.
    pub(super) fn act(&self, thread: u32) -> Option<Act> {
        if thread == 0 || thread != self.thread.load(Ordering::Acquire) {
            return None;
        }
        self.act.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Acquire)
    }

    pub(super) fn begin(&self) {
        self.is_busy.store(true, Ordering::Release);
    }

    fn end(&self) {
        self.is_busy.store(false, Ordering::Release);
        self.changed.notify_one();
    }

    fn play(&self, act: Act) {
        *self.act.lock().unwrap_or_else(PoisonError::into_inner) = Some(act);
    }
}

/// Starts the thread. `tree` is a mount of the volume that nobody else has, and that may be written.
pub(super) fn start(tree: OwnedFd, scene: Arc<Scene>) -> io::Result<mpsc::Sender<Vec<Event>>> {
    let (sender, batches) = mpsc::channel::<Vec<Event>>();
    let raise_all = move || {
        scene.thread.store(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(), Ordering::Release);
        scene.play(Act::Begin);
        // None: the volume is a file.
        let root = openat(&tree, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        let stage = Stage { tree, root, scene };
        for batch in batches {
            for event in batch {
                let _it_is_another_by_now = stage.raise(&event);
            }
            stage.scene.end();
        }
    };
    std::thread::Builder::new().name("events".to_owned()).stack_size(STACK).spawn(raise_all)?;
    Ok(sender)
}

struct Stage {
    tree: OwnedFd,
    root: Option<OwnedFd>,
    scene: Arc<Scene>,
}

impl Stage {
    fn raise(&self, event: &Event) -> Result<()> {
        self.scene.play(Act::Raise(event.clone()));
        let directory = self.directory(event.directory)?;
        let name = &event.name[..];
        match &event.what {
            What::Changed(changes) => self.change(&directory, name, *changes),
            What::Created(changes) => {
                create(&directory, name, event.kind)?;
                // From now on there is such a name.
                let what = What::Changed(*changes);
                self.scene.play(Act::Raise(Event { what, ..event.clone() }));
                self.change(&directory, name, *changes)
            }
            What::Deleted { .. } => delete(&directory, name, event.kind),
            What::Moved { node, directory: to, name: other, .. } => {
                match self.directory(*to).and_then(|to| renameat(&directory, name, &to, &other[..])) {
                    // It is gone from where it came to.
                    Err(Errno::NOENT | Errno::STALE) => {
                        let what = What::Deleted { node: *node };
                        self.scene.play(Act::Raise(Event { what, ..event.clone() }));
                        delete(&directory, name, event.kind)
                    }
                    moved => moved,
                }
            }
        }
    }

    fn directory(&self, node: u64) -> Result<OwnedFd> {
        if node == ROOT {
            return rustix::io::fcntl_dupfd_cloexec(&self.tree, 0);
        }
        let root = self.root.as_ref().ok_or(Errno::NOTDIR)?;
        open_node(root.as_fd(), node).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    fn change(&self, directory: &OwnedFd, name: &[u8], changes: Changes) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let opened;
        let file = if name.is_empty() {
            &self.tree
        } else {
            opened = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            &opened
        };
        // Asks the host, and drops what is remembered of the content if it is another one by now.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
        let found = statx(file, "", flags, StatxFlags::BASIC_STATS)?;
        let is_regular = FileType::from_raw_mode(found.stx_mode.into()) == FileType::RegularFile;
        let written = if changes.has(Changes::CLOSED) && is_regular {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            openat(CWD, path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
        } else {
            None
        };
        let touch = |access| {
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: access }, last_modification: now };
            utimensat(file, "", &times, AtFlags::EMPTY_PATH)
        };
        // A change of the modification time alone is to inotify one of the content.
        if changes.has(Changes::CONTENT) {
            touch(UTIME_OMIT)?;
        }
        if changes.has(Changes::ATTRIBUTES) {
            touch(UTIME_NOW)?;
        }
        drop(written);
        Ok(())
    }
}

fn create(directory: &OwnedFd, name: &[u8], kind: u16) -> Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(kind.into()) {
        FileType::Directory => mkdirat(directory, name, mode),
        FileType::Symlink => symlinkat("-", directory, name),
        other => mknodat(directory, name, other, mode, 0),
    }
}

fn delete(directory: &OwnedFd, name: &[u8], kind: u16) -> Result<()> {
    let is_directory = FileType::from_raw_mode(kind.into()) == FileType::Directory;
    unlinkat(directory, name, if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use std::mem::MaybeUninit;

    const FILE: u16 = 0o100_000;
    const DIRECTORY: u16 = 0o040_000;
    const LINK: u16 = 0o120_000;

    /// On a file system of this machine, where each call does what it says.
    #[tokio::test]
    async fn each_event_comes_of_the_call_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
        let wanted = WatchFlags::ALL_EVENTS & !(WatchFlags::ACCESS | WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE);
        inotify::add_watch(&inotify, dir.path(), wanted).unwrap();
        let tree = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let event = |name: &str, kind, what| Event { directory: ROOT, name: name.into(), kind, what };
        let moved = |to: &str| What::Moved { node: 0, directory: ROOT, name: to.into(), replaced: (0, 0) };
        let written = Changes::CONTENT.and(Changes::CLOSED);
        let batch = vec![
            event("file", FILE, What::Created(written)),
            event("dir", DIRECTORY, What::Created(Changes::default())),
            event("link", LINK, What::Created(Changes::default())),
            event("gone", 0, What::Changed(written)),
            event("file", 0, What::Changed(Changes::CONTENT)),
            event("dir", DIRECTORY, What::Changed(Changes::ATTRIBUTES)),
            event("file", FILE, moved("other")),
            event("gone", 0, moved("nowhere")),
            event("other", FILE, What::Deleted { node: 0 }),
            event("dir", DIRECTORY, What::Deleted { node: 0 }),
            event("", DIRECTORY, What::Changed(Changes::ATTRIBUTES)),
        ];
        let scene = Arc::new(Scene::default());
        let thread = start(tree, scene.clone()).unwrap();
        scene.begin();
        thread.send(batch).unwrap();
        while scene.is_busy() {
            scene.changed.notified().await;
        }

        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&inotify, &mut room);
        let mut heard = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| name.to_str().unwrap().to_owned());
            heard.push((name.unwrap_or_default(), event.events()));
        }
        let expected = [
            ("file", ReadFlags::CREATE),
            ("file", ReadFlags::MODIFY),
            ("file", ReadFlags::CLOSE_WRITE),
            ("dir", ReadFlags::CREATE | ReadFlags::ISDIR),
            ("link", ReadFlags::CREATE),
            ("file", ReadFlags::MODIFY),
            ("dir", ReadFlags::ATTRIB | ReadFlags::ISDIR),
            ("file", ReadFlags::MOVED_FROM),
            ("other", ReadFlags::MOVED_TO),
            ("other", ReadFlags::DELETE),
            ("dir", ReadFlags::DELETE | ReadFlags::ISDIR),
            ("", ReadFlags::ATTRIB | ReadFlags::ISDIR),
        ];
        assert_eq!(heard, expected.map(|(name, flags)| (name.to_owned(), flags)));
    }
}
