//! What happened to VMs: one line of JSON an event, appended by whoever did it or saw it.
//!
//! Many processes write at once and none is there for all of them, so a line is one write at the end of the file. Two
//! files of bounded size: `events/log` and, before it, `events/log.1`. They are their owner's only (0600) and hold what a
//! list of VMs would show: no environment, no command line.

use crate::log::Lines;
use crate::{Error, HealthStatus, Store, VmRecord, file};
use fcvm_spec::{RestartPolicy, SnapshotId, VmId, VmName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CURRENT: &str = "log";
const PREVIOUS: &str = "log.1";
const LOCK: &str = "lock";
/// The size in bytes at which a file is full.
const LIMIT: u64 = 2 << 20;
/// Labels longer than this are left out: one VM must not fill the file.
const LONGEST_LABELS: usize = 4096;

/// Something that happened to a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEvent {
    /// When, in nanoseconds since 1970.
    pub at_ns: i64,
    /// What.
    pub what: What,
    /// To whom.
    pub id: VmId,
    /// Its name then.
    pub name: VmName,
    /// Its image, as it was asked for.
    pub image: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What happened. Kinds are only added; a reader skips lines of kinds that it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It got its name and its directory.
    Create,
    /// Its container runs.
    Start,
    /// Its machine is another one of a snapshot.
    Clone {
        /// Which.
        snapshot: SnapshotId,
    },
    /// It went back to a snapshot.
    Rewind {
        /// Which.
        snapshot: SnapshotId,
    },
    /// A snapshot of it was made.
    Snapshot {
        /// Which.
        snapshot: SnapshotId,
    },
    /// What is said of its container's health has changed.
    Health {
        /// Now it is this.
        status: HealthStatus,
    },
    /// Its machine stands still.
    Pause,
    /// Its machine goes on.
    Unpause,
    /// Its container was sent this signal.
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// It was asked to end.
    Stop,
    /// The guest's kernel killed one of the container's processes for want of memory.
    Oom,
    /// Its container has ended, or its machine was lost.
    Died {
        /// The exit code.
        code: u8,
    },
    /// Its container starts again: somebody asked for that, or its policy did.
    Restart {
        /// The policy.
        policy: RestartPolicy,
    },
    /// Its machine starts again: something in it asked for that.
    Reboot,
    /// Its limits have changed.
    Update,
    /// It has another name.
    Rename {
        /// The one that it had.
        before: VmName,
    },
    /// It is gone.
    Remove,
}

impl Store {
    pub(crate) fn events_dir(&self) -> PathBuf {
        self.root().join("events")
    }

    /// Writes down what happened to a VM. That this fails (the disk may be full) keeps nobody from anything.
    pub fn note(&self, record: &VmRecord, what: What) {
        let labels = &record.spec.container.labels;
        let length: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = VmEvent {
            at_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            what,
            id: record.spec.id.clone(),
            name: record.spec.name.clone(),
            image: record.spec.image.clone(),
            labels: if length > LONGEST_LABELS { BTreeMap::new() } else { labels.clone() },
        };
        if let Err(error) = self.append(&event, LIMIT) {
            tracing::warn!(%error, ?event.what, "an event was not written down");
        }
    }

    fn append(&self, event: &VmEvent, limit: u64) -> Result<(), Error> {
        let dir = self.events_dir();
        self.make_dir(&dir, 0o700)?;
        let path = dir.join(CURRENT);
        let mut line = serde_json::to_vec(event).expect("an event has no maps with keys that are not text");
        line.push(b'\n');
        // Writers share the lock; who puts the full file aside has it alone, so that no line goes into a file that is aside.
        let lock = file::open_lock(&dir.join(LOCK))?;
        lock.lock_shared().map_err(Error::file("lock", &dir.join(LOCK)))?;
        let mut log = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let written = log.as_mut().map_or_else(|_| Ok(0), |log| log.write(&line));
        let log = log.map_err(Error::file("open", &path))?;
        written.map_err(Error::file("write", &path))?;
        let is_full = |log: &File| log.metadata().is_ok_and(|metadata| metadata.len() >= limit);
        if !is_full(&log) {
            return Ok(());
        }
        drop(log);
        lock.unlock().and_then(|()| lock.lock()).map_err(Error::file("lock", &dir.join(LOCK)))?;
        // Somebody else may have been first.
        match File::open(&path) {
            Ok(log) if is_full(&log) => fs::rename(&path, dir.join(PREVIOUS)).map_err(Error::file("rename", &path)),
            _ => Ok(()),
        }
    }

    /// Opens the events that are kept, the oldest first.
    pub fn events(&self) -> Result<EventReader, Error> {
        let dir = self.events_dir();
        self.make_dir(&dir, 0o700)?;
        Ok(EventReader(Lines::open(&dir, CURRENT, PREVIOUS)?))
    }
}

/// Reads events from the oldest that is kept, and on as they happen.
#[derive(Debug)]
pub struct EventReader(Lines);

impl EventReader {
    /// Returns the next event, or none where they end for now.
    pub fn next_event(&mut self) -> Result<Option<VmEvent>, Error> {
        while let Some(line) = self.0.read()? {
            if let Ok(event) = serde_json::from_slice(line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The descriptor that becomes readable when there may be more.
    pub fn changes(&self) -> &OwnedFd {
        self.0.changes()
    }

    /// Waits until there may be more, so long at most if there is a limit. Blocks.
    pub fn wait(&self, limit: Option<Duration>) -> Result<(), Error> {
        self.0.wait(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64) -> VmEvent {
        VmEvent {
            at_ns: number,
            what: What::Died { code: 3 },
            id: VmId::from_random([1; 32]),
            name: "web".parse().unwrap(),
            image: "busybox".to_owned(),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("data")).unwrap();
        (dir, store)
    }

    fn times(reader: &mut EventReader) -> Vec<i64> {
        std::iter::from_fn(|| reader.next_event().unwrap()).map(|event| event.at_ns).collect()
    }

    #[test]
    fn events_of_many_writers_are_whole_and_followed() {
        let (_dir, store) = store();
        let mut reader = store.events().unwrap();
        let writer = |first: i64| {
            let store = store.clone();
            std::thread::spawn(move || (first..first + 50).for_each(|at| store.append(&event(at), 64 << 10).unwrap()))
        };
        let mut seen = Vec::new();
        for round in 0..4 {
            let writers = [writer(round * 200), writer(round * 200 + 50), writer(round * 200 + 100)];
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            seen.extend(times(&mut reader));
        }
        seen.sort_unstable();
        let expected: Vec<i64> = (0..4).flat_map(|round| round * 200..round * 200 + 150).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_is_kept_is_bounded_and_only_the_owners() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, store) = store();
        (0..1000).for_each(|at| store.append(&event(at), 4096).unwrap());
        let size = |name: &str| fs::metadata(store.events_dir().join(name)).map_or(0, |file| file.len());
        assert!(size(CURRENT) + size(PREVIOUS) < 3 * 4096);
        assert_eq!(fs::metadata(store.events_dir().join(PREVIOUS)).unwrap().permissions().mode() & 0o777, 0o600);
        let kept = times(&mut store.events().unwrap());
        assert_eq!(kept.last(), Some(&999));
        assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }

    #[test]
    fn a_line_of_an_unknown_kind_or_of_a_torn_write_is_skipped() {
        let (_dir, store) = store();
        store.append(&event(1), LIMIT).unwrap();
        let path = store.events_dir().join(CURRENT);
        let mut log = OpenOptions::new().append(true).open(path).unwrap();
        log.write_all(b"{\"at_ns\":2,\"what\":\"teleport\",\"id\":\"\"}\n\xff\xfe\n{\"at\n").unwrap();
        store.append(&event(3), LIMIT).unwrap();
        assert_eq!(times(&mut store.events().unwrap()), [1, 3]);
    }
}
