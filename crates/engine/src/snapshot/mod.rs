//! Snapshots of running VMs, and VMs that start from them.
//!
//! [`capture`] is the one way in which a machine is saved; a restore is a [`crate::run`] whose machine comes from
//! [`clone`] instead of a kernel.

pub(crate) mod capture;
mod census;
pub(crate) mod clone;
mod difference;
mod disk;
mod moved;
mod prepare;
pub(crate) mod serve;

pub use clone::{CloneAsk, clone_spec};
pub use difference::{Comings, Difference, difference};
pub use moved::Moved;
pub use prepare::{Found, Preparation, PreparedSnapshot};
pub use serve::Serving;

use crate::control::{CaptureAnswer, Command};
use crate::ops::{connect, done};
use crate::{Engine, Error};
use capture::Live;
use fcvm_spec::SnapshotId;
use fcvm_store::snapshot::{Holds, Kind, Sizes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A snapshot to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRequest {
    /// Its id.
    pub id: SnapshotId,
    /// Why.
    pub kind: Kind,
    /// What the user writes on it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether the guest writes back its file systems first.
    pub quiesce: Quiesce,
    /// Of what.
    #[serde(default)]
    pub holds: Holds,
}

/// Whether the guest writes back its file systems before a capture. The memory holds what it has not written; only a disk
/// that is used by itself is the worse for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quiesce {
    /// It does.
    #[default]
    Yes,
    /// It does not, which saves the time.
    No,
}

/// A snapshot that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Its id.
    pub id: SnapshotId,
    /// How long the machine was paused, in microseconds.
    pub pause_us: u64,
    /// How many pages the machine had of its own, if it had been restored.
    pub own_pages: Option<u64>,
    /// The room that it takes.
    pub sizes: Sizes,
}

impl Engine {
    /// Lets a running VM go back to a snapshot in place: same name, same ports, same owner.
    pub async fn rewind(&self, vm: &str, snapshot: &str) -> Result<(), Error> {
        let id = self.store().find_snapshot(snapshot)?.id().clone();
        let dir = self.store().find_vm(vm)?;
        let client = connect(&dir, vm).await?;
        done(client.ask(&Command::Rewind(id)).await)
    }

    /// Writes down what a VM has used of its snapshot since it started from it; later ones find that read in.
    pub async fn tune(&self, vm: &str) -> Result<(), Error> {
        let dir = self.store().find_vm(vm)?;
        done(connect(&dir, vm).await?.ask(&Command::Tune).await)
    }

    pub(crate) fn tune_snapshot(&self, live: &Live<'_>) -> Result<(), Error> {
        let restored = live.record.restored.as_ref().ok_or(Error::OnlyADisk)?;
        let touched = live.machine.touched_memory();
        let touched = touched.map_err(|source| Error::Memory { what: "look at", source })?;
        Ok(self.store().snapshot(&restored.snapshot)?.set_working_set(&touched)?)
    }

    /// Captures a running VM, which goes on.
    pub async fn snapshot(&self, vm: &str, request: CaptureRequest) -> Result<Captured, Error> {
        let dir = self.store().find_vm(vm)?;
        let client = connect(&dir, vm).await?;
        match client.ask(&Command::Capture(request)).await? {
            CaptureAnswer::Captured(captured) => Ok(captured),
            CaptureAnswer::Failed(reason) => Err(Error::Refused(reason)),
        }
    }
}
