//! Points at which a `run` or a capture can be made to fail or to die, so that tests see what is left on the host.
//!
//! All of them stand in this one list, in the order in which one comes by: the lowest room that has one is this. Nothing
//! is read from the environment here, and a run that was told of no point passes them all for the price of a comparison.

use crate::Error;
use rustix::process::{Signal, getpid, kill_process};
use std::fmt;
use std::str::FromStr;

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A point on the way of a run or of a capture.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FailPoint { $($(#[$doc])* $point,)* }

        impl FailPoint {
            /// All of them, in the order in which a run comes by.
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// Its name in `FCVM_FAIL_POINT` and in messages.
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }
        }
    };
}

points! {
    /// The image is there. The client of `run -d` comes by here, not its owner.
    Fetched = "fetched",
    /// An owner in the background has been told what to run. Only the client of `run -d` comes by here.
    OwnerTold = "owner-told",
    /// The VM has a directory.
    Directory = "directory",
    /// The directory has its lock.
    Locked = "locked",
    /// The VM has a record.
    Recorded = "recorded",
    /// The VM has its name.
    Named = "named",
    /// A VM that had ended or was only created is owned again. Only a start of such a one comes by here.
    Taken = "taken",
    /// The owner answers on `control.sock`.
    Control = "control",
    /// Kernel, initramfs and guest system are known.
    Artifacts = "artifacts",
    /// The image is held.
    Image = "image",
    /// The published ports are bound.
    Ports = "ports",
    /// The record says what is to run.
    Planned = "planned",
    /// The VM has its scratch disk.
    Scratch = "scratch",
    /// The monitor has its directory.
    RunDirectory = "run-directory",
    /// The monitor runs; nothing on disk says so yet.
    Monitor = "monitor",
    /// The record says which process the monitor is.
    MonitorRecorded = "monitor-recorded",
    /// The guest has greeted.
    Greeted = "greeted",
    /// The container runs; nothing on disk says so yet.
    Started = "started",
    /// The container runs and its record says so; who waits for that has not been told.
    StartRecorded = "start-recorded",
    /// The container runs and everybody knows.
    Running = "running",
    /// The container has ended, its machine runs.
    Ended = "ended",
    /// The machine has ended.
    PoweredOff = "powered-off",
    /// The record says that another machine follows; there is none. Only a VM that restarts comes by here.
    Renewed = "renewed",
    /// The record says how the VM ended.
    EndRecorded = "end-recorded",
    /// A VM that is removed has lost its name.
    NameFreed = "name-freed",
    /// A VM that is removed has lost its record.
    RecordRemoved = "record-removed",
    /// A VM that is kept has lost what only a running one needs, but for its lock.
    Retiring = "retiring",
    /// A snapshot has its directory and its lock. This and what follows is of a capture.
    CaptureBegun = "capture-begun",
    /// The machine that is captured is paused; nothing of the moment is saved.
    CapturePaused = "capture-paused",
    /// Devices, memory and disk are saved, the machine is still paused.
    CaptureSaved = "capture-saved",
    /// All of a snapshot is on disk, under a name by which it is not found.
    CaptureWritten = "capture-written",
    /// A snapshot can be found; who asked for it has not been told.
    CaptureCommitted = "capture-committed",
    /// The machine of a rewind runs beside the one whose place it is to take.
    RewindAwake = "rewind-awake",
}

impl fmt::Display for FailPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// An error like any other.
    Error,
    /// SIGKILL to this process.
    Kill,
    /// SIGSTOP to this process; it goes on after SIGCONT.
    Stop,
}

/// At which point what happens; by default nothing happens anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(Option<(FailPoint, Fate)>);

impl Faults {
    /// Passes a point, or fails or dies there.
    pub fn at(self, point: FailPoint) -> Result<(), Error> {
        let Some((_, fate)) = self.0.filter(|(wanted, _)| *wanted == point) else { return Ok(()) };
        let signal = match fate {
            Fate::Error => return Err(Error::Fault(point)),
            Fate::Kill => Signal::KILL,
            Fate::Stop => Signal::STOP,
        };
        kill_process(getpid(), signal).map_err(|error| Error::Signal { point, source: error.into() })
    }
}

/// A text that names no point or nothing that can happen there.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no fail point: POINT=error, POINT=kill or POINT=stop is expected, where POINT is one of {names}", names = names())]
pub struct NotAFault(String);

fn names() -> String {
    FailPoint::ALL.iter().map(|point| point.name()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Faults {
    type Err = NotAFault;

    /// Reads `POINT=error`, `POINT=kill` or `POINT=stop`.
    fn from_str(text: &str) -> Result<Self, NotAFault> {
        let read = || {
            let (name, fate) = text.split_once('=')?;
            let point = FailPoint::ALL.iter().find(|point| point.name() == name)?;
            let fate = match fate {
                "error" => Fate::Error,
                "kill" => Fate::Kill,
                "stop" => Fate::Stop,
                _ => return None,
            };
            Some(Self(Some((*point, fate))))
        };
        read().ok_or_else(|| NotAFault(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_point_fails() {
        let faults: Faults = "ports=error".parse().unwrap();
        let failed: Vec<_> = FailPoint::ALL.iter().filter(|point| faults.at(**point).is_err()).collect();
        assert_eq!(failed, [&FailPoint::Ports]);
        assert!(FailPoint::ALL.iter().all(|point| Faults::default().at(*point).is_ok()));
    }

    #[test]
    fn what_is_no_point_or_no_fate_is_refused() {
        for text in ["", "ports", "ports=", "ports=burn", "=kill", "nowhere=kill"] {
            assert!(text.parse::<Faults>().unwrap_err().to_string().contains("name-freed"), "{text}");
        }
    }
}
