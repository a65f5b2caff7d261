//! What a container uses, what runs in it and what it has written: asked while it runs.

use serde::{Deserialize, Serialize};

/// The answer to [`crate::message::HostRequest::Usage`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Nanoseconds of processors that the container's processes have had.
    pub cpu_ns: u64,
    /// Bytes of memory that the container takes, files in the page cache included.
    pub memory: u64,
    /// The most that it may take: the limit, or all that the machine has.
    pub memory_limit: u64,
    /// Its processes and threads.
    pub pids: u64,
    /// Bytes that came over the network.
    pub net_in: u64,
    /// Bytes that went over the network.
    pub net_out: u64,
    /// Bytes that were read from the disks.
    pub disk_in: u64,
    /// Bytes that were written to the disks.
    pub disk_out: u64,
}

/// A part of the answer to [`crate::message::HostRequest::Processes`]; the guest sends as many as it takes, then finishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// Ticks of 10 ms since the guest's boot.
    pub uptime: u64,
    /// Processes of the container.
    pub processes: Vec<Process>,
}

/// A process of the container. Times are ticks of 10 ms, sizes KiB; numbers are those in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number; 0 outside of the container.
    pub ppid: i32,
    /// Its number in the guest.
    pub system_pid: i32,
    /// Its group's number in the guest.
    pub pgid: i32,
    /// Its user, by name where the image has one.
    pub user: String,
    /// Its group of users, likewise.
    pub group: String,
    /// One letter, as in `/proc`.
    pub state: String,
    /// Its nice value.
    pub nice: i32,
    /// How long it has had a processor.
    pub cpu: u64,
    /// When it started, after the guest's boot.
    pub started: u64,
    /// Its terminal, or `?`.
    pub tty: String,
    /// Memory that it has mapped.
    pub virtual_kib: u64,
    /// Memory that it has in use.
    pub resident_kib: u64,
    /// The name of its program.
    pub name: String,
    /// Its program and arguments, shortened.
    pub command: String,
}

/// A part of the answer to [`crate::message::HostRequest::Changes`]; the guest sends as many as it takes, then finishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Paths from the root that are not as the image has them.
    pub changes: Vec<FileChange>,
    /// Why there is no more to come though not all was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A path that is not as the image has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileChange {
    /// The path; what is not text is replaced.
    pub path: String,
    /// What became of it.
    pub change: Change,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The image does not have it.
    Added,
    /// The image has another.
    Changed,
    /// The image has it, the container does not.
    Deleted,
}
