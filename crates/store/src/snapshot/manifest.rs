//! What is known about a snapshot, in one file that tells whether it is whole.
//!
//! ```text
//! fcvm-snapshot FORMAT SHA256-OF-THE-REST
//! { the manifest as JSON }
//! ```
//! Mode 0600: the specification in it holds the environment. What a later version adds has a default.

use super::SavedDisk;
use crate::Error;
use fcvm_spec::{SnapshotId, VmId, VmName, VmSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// The version of the manifest that this build reads and writes.
pub const FORMAT: u32 = 1;

const MAGIC: &str = "fcvm-snapshot";

/// A snapshot's description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its id.
    pub id: SnapshotId,
    /// Nanoseconds since 1970 when the machine was paused for it.
    pub created_ns: i64,
    /// Why it was made.
    pub kind: Kind,
    /// What the user wrote on it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The VM that it was made of.
    pub source: Source,
    /// The snapshot that the VM had been restored from.
    #[serde(default)]
    pub parent: Option<SnapshotId>,
    /// What it is of.
    #[serde(default)]
    pub holds: Holds,
    /// What was asked of the VM.
    pub spec: VmSpec,
    /// The digest of its image.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// The command that the container runs.
    #[serde(default)]
    pub command: Vec<String>,
    /// What the machine was.
    pub machine: SavedMachine,
    /// What the container was doing.
    pub container: ContainerState,
    /// How long the machine was paused, in microseconds.
    pub pause_us: u64,
    /// The user's disks, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<SavedDisk>,
    /// Its files by name.
    pub files: BTreeMap<String, FileEntry>,
}

/// Why a snapshot was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A user asked for it.
    User,
    /// To start later runs of the same kind from it.
    Cache {
        /// What they have in common.
        key: String,
    },
    /// For the children of one fork.
    Fork,
}

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// A machine, which goes on from there.
    #[default]
    Machine,
    /// The VM's disk: machines boot with it.
    Disk,
}

/// The VM that a snapshot was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
}

/// What has to be the same where the machine goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedMachine {
    /// The monitor, for example `qemu`.
    pub backend: String,
    /// Its version: the saved devices are in its own format.
    pub version: String,
    /// What runs the guest's instructions, for example `tcg`.
    pub accel: String,
    /// The processor that the guest has seen.
    pub processor: String,
}

/// What the container was doing when the machine was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// It was not started: the world around it stands.
    Unstarted,
    /// It ran.
    Running,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its length in bytes, holes included.
    pub size: u64,
    /// The digest of its bytes, as [`crate::snapshot::digest`] computes it; absent for files that are shared with others.
    #[serde(default)]
    pub sha256: Option<String>,
}

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let body = serde_json::to_vec_pretty(self).expect("a manifest has no maps with keys that are not text");
        let mut file = format!("{MAGIC} {FORMAT} {}\n", hex(&Sha256::digest(&body))).into_bytes();
        file.extend(body);
        file
    }

    pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Self, Error> {
        let damaged = |reason: &str| Error::DamagedSnapshot { path: path.to_owned(), reason: reason.to_owned() };
        let end = bytes.iter().take(200).position(|byte| *byte == b'\n').ok_or_else(|| damaged("it has no head"))?;
        let (head, body) = (&bytes[..end], &bytes[end + 1..]);
        let head = std::str::from_utf8(head).map_err(|_| damaged("its head is no text"))?;
        let mut words = head.split(' ');
        let (Some(MAGIC), Some(format), Some(digest), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(damaged("its head is not that of a snapshot"));
        };
        if format != FORMAT.to_string() {
            let found = format.chars().take(20).collect();
            return Err(Error::FutureSnapshot { path: path.to_owned(), found });
        }
        if digest != hex(&Sha256::digest(body)) {
            return Err(damaged("its manifest was changed or cut off"));
        }
        serde_json::from_slice(body).map_err(|error| damaged(&error.to_string()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
