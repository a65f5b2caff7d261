//! A watch over one directory: told by the kernel when something in it changes.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Notices what is made, written, renamed or removed in a directory from the moment it was made.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    changes: OwnedFd,
}

impl Watch {
    /// Watches a directory.
    pub fn on(dir: &Path) -> Result<Self, Error> {
        let failed = |error: rustix::io::Errno| Error::file("watch", dir)(error.into());
        let changes = inotify::init(inotify::CreateFlags::CLOEXEC).map_err(failed)?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::DELETE;
        let events = events | inotify::WatchFlags::MOVE | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&changes, dir, events).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), changes })
    }

    /// The descriptor that becomes readable when something changed.
    pub fn changes(&self) -> &OwnedFd {
        &self.changes
    }

    /// Waits until something changed since the last wait, so long at most if there is a limit. Blocks.
    pub fn wait(&self, limit: Option<Duration>) -> Result<(), Error> {
        Self::wait_for_any(&[self], limit)
    }

    /// The same for several, of which one is enough.
    pub fn wait_for_any(watches: &[&Self], limit: Option<Duration>) -> Result<(), Error> {
        let limit = limit.map(|limit| Timespec::try_from(limit).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 }));
        let mut polled: Vec<PollFd<'_>> =
            watches.iter().map(|watch| PollFd::new(&watch.changes, PollFlags::IN)).collect();
        let mut buffer = [0; 4096];
        let waited = rustix::event::poll(&mut polled, limit.as_ref());
        for (watch, polled) in watches.iter().zip(&polled) {
            let read = match waited {
                Ok(_) if polled.revents().is_empty() => continue,
                Ok(_) => rustix::io::read(&watch.changes, &mut buffer),
                Err(error) => Err(error),
            };
            match read {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::file("watch", &watch.dir)(error.into())),
            }
        }
        Ok(())
    }
}
