//! What was asked for a VM, and the rules about it: the intent, ids, ports, units, the lifecycle table. No I/O.
//!
//! Every value here is parsed once at the door (by the command line or the API) into a type that cannot be wrong.
//! What is done with it is decided in the `engine` room.

mod cgroup;
pub mod container;
mod disk;
pub mod health;
pub mod id;
pub mod lifecycle;
mod limits;
pub mod network;
pub mod port;
pub mod restart;
pub mod signal;
pub mod unit;
mod vm;
mod volume;

pub use cgroup::CgroupSpec;
pub use container::{ContainerSpec, Engine, HostEntry, Tmpfs, Ulimit};
pub use disk::{DiskFormat, DiskSource, DiskSpec, RootfsSize};
pub use health::{HealthAsked, HealthCommand, HealthSpec, HealthUrl};
pub use id::{SnapshotId, VmId, VmName, VolumeName};
pub use lifecycle::Phase;
pub use limits::{Limits, TooSmall};
pub use network::NetworkMode;
pub use port::{PortMapping, Protocol};
pub use restart::RestartPolicy;
pub use signal::Signal;
pub use unit::MiB;
pub use vm::{
    Accel, KernelChoice, MachineShape, PageSize, Removal, RootKind, SnapshotPolicy, Stdin, VmSpec, VmmChoice,
};
pub use volume::{
    MountAsk, VolumeBeginning, VolumeCache, VolumeEvents, VolumeOwner, VolumeRights, VolumeSource, VolumeSpec,
    VolumeView,
};

/// A value that was refused at the door: what it was, and what it should look like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {value:?}: {expected}")]
pub struct Invalid {
    /// What kind of value it is, for example `port mapping`.
    pub what: &'static str,
    /// What was given, cut to a readable length.
    pub value: String,
    /// What would have been right.
    pub expected: String,
}

impl Invalid {
    /// Refuses `value`; long values are cut, since they end up in one line on a terminal.
    pub fn new(what: &'static str, value: &str, expected: impl Into<String>) -> Self {
        const SHOWN: usize = 80;
        let value = match value.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}…", &value[..end]),
            None => value.to_owned(),
        };
        Self { what, value, expected: expected.into() }
    }
}
