//! What a guest is told when it wakes up as another machine, and what it answers.

use crate::plan::Container;
use serde::{Deserialize, Serialize};

/// What is new for a restored guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Names this restore, a UUID: compared for equality only.
    pub epoch: String,
    /// The host's time in nanoseconds since 1970, when this was sent.
    pub time_ns: i64,
    /// Random bytes of the host, as hex. Every restore has others: the guest's pool is that of the snapshot.
    pub entropy: String,
    /// The guest's and the container's host name.
    pub hostname: String,
    /// The text of `/etc/machine-id`, without its line end.
    pub machine_id: String,
    /// The text of `/etc/hosts`.
    pub hosts: String,
    /// The text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `KEY=VALUE`: over the container's environment for commands that are run from now on.
    #[serde(default)]
    pub env: Vec<String>,
    /// The container to start, in a guest that was saved before it had started one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// The guest's answer to a [`Delta`], once it is done: before that nobody else speaks with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreReport {
    /// All of it was done.
    Restored(Receipt),
    /// It was not: this guest is not to be used.
    Failed {
        /// The step, for example `clock`.
        step: String,
        /// Why it failed, for people.
        reason: String,
    },
}

/// What a restored guest found and made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The epoch that it was told.
    pub epoch: String,
    /// How far its clock was from the host's before it was set, in nanoseconds; negative: behind.
    pub clock_before_ns: i64,
    /// The first 16 bytes of its random pool after that was seeded anew, as hex: proof that no other has the same.
    pub random: String,
    /// Its host name, as the kernel says it.
    pub hostname: String,
    /// Its machine id, as its file says it.
    pub machine_id: String,
    /// TCP connections of the old life that were reset.
    pub connections: u32,
    /// The number of the container's first process; none if no container runs.
    #[serde(default)]
    pub container: Option<i32>,
}
