//! How other processes reach a VM: a connection to its `control.sock`, on which the session protocol is spoken.

mod client;
mod server;
mod socket;
mod splice;

pub(crate) use client::{Client, refused};
pub(crate) use server::{Ask, Control, PAUSED};

use crate::console::Streams;
use crate::snapshot::{CaptureRequest, Captured};
use fcvm_proto::files::{Pack, Unpack};
use fcvm_proto::message::Exec;
use fcvm_spec::{Limits, SnapshotId, VmName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The request that opens a stream on `control.sock`. Client and owner are of one installation, but the owner may be older.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Runs a command in the VM; the stream carries what `HostRequest::Exec` carries.
    Exec(Exec),
    /// Asks what the container uses; answered with a `Usage`.
    Usage,
    /// Asks for the container's processes; the stream carries what `HostRequest::Processes` carries.
    Processes,
    /// Asks what the container has written; the stream carries what `HostRequest::Changes` carries.
    Changes,
    /// Asks what was written to a view of a volume; the stream carries what `HostRequest::ViewChanges` carries.
    ViewChanges {
        /// The volume's number.
        number: u32,
    },
    /// Asks for files of the container; the stream carries what `HostRequest::Pack` carries.
    Pack(Pack),
    /// Gives files to the container; the stream carries what `HostRequest::Unpack` carries.
    Unpack(Unpack),
    /// Is at these streams of the container; the stream carries what `HostRequest::Exec` carries, but for signals.
    Attach(Streams),
    /// Sends a signal to the container; answered with `Done`.
    Kill {
        signal: i32,
        #[serde(default)]
        all: bool,
    },
    /// Ends the VM: the stop signal, and SIGKILL after the time-out. Answered with `Done` when that has begun.
    Stop {
        /// Seconds; the VM's own time-out if absent.
        #[serde(default)]
        timeout_s: Option<u32>,
    },
    /// Ends the container in the same way and starts it in another machine. Answered with `Done` when it runs again.
    Restart {
        /// Seconds; the VM's own time-out if absent.
        #[serde(default)]
        timeout_s: Option<u32>,
    },
    /// Lets the machine stand still; answered with `Done`.
    Pause,
    /// Lets it go on; answered with `Done`.
    Unpause,
    /// Gives the VM another name; answered with `Done`.
    Rename(VmName),
    /// Changes what the container may use; answered with `Done`.
    Update(Limits),
    /// Captures the machine; answered with [`CaptureAnswer`] when that is done.
    Capture(CaptureRequest),
    /// Puts a machine of this snapshot in the place of the VM's; answered with `Done`.
    Rewind(SnapshotId),
    /// Writes down which pages of its snapshot the machine has used so far; answered with `Done`.
    Tune,
    /// Changes what the guest may know of itself; answered with `Done`.
    SetMetadata(BTreeMap<String, String>),
    /// Asks whether the container is well; answered with a `HealthRecord`, or `null` where nothing says how that is told.
    Check,
    /// Answered with [`Waited`] when the VM has ended.
    Wait,
}

/// The answer to [`Command::Capture`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CaptureAnswer {
    /// It was made.
    Captured(Captured),
    /// It was not; the machine runs.
    Failed(String),
}

/// The answer to [`Command::Wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waited {
    /// The container's exit code.
    pub(crate) code: u8,
}
