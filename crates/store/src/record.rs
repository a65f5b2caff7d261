//! What was asked for a VM and what became of it.

use fcvm_spec::{Phase, PortMapping, SnapshotId, VmSpec};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The record of one VM. Its owner alone writes it; what a later version adds has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    /// What was asked.
    pub spec: VmSpec,
    /// What it is doing.
    pub phase: Phase,
    /// Nanoseconds since 1970 when it was asked for.
    pub created_ns: i64,
    /// The same when its container started.
    #[serde(default)]
    pub started_ns: Option<i64>,
    /// Whether someone was told of it. One of which nobody knows goes away if its start fails.
    #[serde(default)]
    pub known: bool,
    /// Whether its disk has something on it that is worth keeping although it never started.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_disk: bool,
    /// The process that runs its driver.
    pub owner: Owner,
    /// The monitor's process, while there is one.
    #[serde(default)]
    pub monitor: Option<Monitor>,
    /// The digest of the image, once known.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// The command that really runs, from the image and what was asked.
    #[serde(default)]
    pub command: Vec<String>,
    /// The ports that the owner really listens on.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// What it was restored from, if it did not boot.
    #[serde(default)]
    pub restored: Option<Restored>,
    /// How well its container is, where that can be told.
    #[serde(default)]
    pub health: Option<Health>,
    /// How often its policy has restarted it since somebody started it.
    #[serde(default)]
    pub restarts: u32,
    /// How it ended.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// How well a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What is said of it.
    pub status: HealthStatus,
    /// Checks in a row that failed.
    pub failing_streak: u32,
    /// The latest checks, newest last.
    pub log: Vec<HealthRecord>,
}

/// What is said of a container's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// It has not been well yet, and not ill for long enough.
    #[default]
    Starting,
    /// The last checks were good.
    Healthy,
    /// The last checks were bad.
    Unhealthy,
}

impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// When it began, in nanoseconds since 1970.
    pub start_ns: i64,
    /// When it ended.
    pub end_ns: i64,
    /// 0 is good.
    pub exit_code: i32,
    /// The beginning of what it said.
    pub output: String,
}

/// How a VM came out of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What was found and made, once all of it was right.
    #[serde(default)]
    pub receipt: Option<Receipt>,
}

/// What was checked before anyone could see a restored VM. A line that fails is an error instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Names the restore.
    pub epoch: String,
    /// How far the guest's clock was from the host's, in nanoseconds; negative: behind.
    pub clock_before_ns: i64,
    /// The same after it was set, as the host sees it.
    pub clock_after_ns: i64,
    /// The first bytes of the guest's random pool after it was seeded, as hex.
    pub random: String,
    /// The guest's host name.
    pub hostname: String,
    /// The guest's machine id.
    pub machine_id: String,
    /// TCP connections of the old life that were reset.
    pub connections: u32,
    /// Volumes of the host that answer.
    #[serde(default)]
    pub volumes: u32,
    /// Which use of its link this is for the guest.
    pub generation: u64,
    /// From the beginning of the monitor to the guest's report, in microseconds.
    pub restore_us: u64,
}

/// A process, by what cannot be confused with a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`.
    pub start_time: u64,
}

/// The monitor of a live VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Its outermost process.
    pub process: Owner,
    /// Which program it is, for example `qemu`.
    pub backend: String,
    /// What runs the guest's instructions, for example `tcg`.
    pub accel: String,
    /// Why that was chosen.
    pub reason: String,
}

/// How a VM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, in nanoseconds since 1970.
    pub at_ns: i64,
    /// The container's exit code; podman's 125, 126, 127 and 128+N included.
    pub code: u8,
    /// Why, where it was not the container's own doing.
    #[serde(default)]
    pub reason: Option<String>,
    /// The guest's kernel killed one of the container's processes for want of memory.
    #[serde(default)]
    pub oom_killed: bool,
}
