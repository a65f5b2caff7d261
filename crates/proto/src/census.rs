//! What runs in a container: asked before a snapshot, so that snapshots can be compared.

use crate::message::Transport;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A part of the answer to [`crate::message::HostRequest::Census`]; the guest sends as many as it takes, then finishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Processes of the container.
    #[serde(default)]
    pub processes: Vec<Running>,
    /// Where they listen.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// A process of the container. Number and start together are unique within a boot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Running {
    /// Its number in the container.
    pub pid: i32,
    /// Ticks of 10 ms from the guest's boot to its start.
    pub started: u64,
    /// Its program and arguments, shortened.
    pub command: String,
}

/// A socket that takes connections or datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Listener {
    /// Of which kind.
    pub protocol: Transport,
    /// At which address of the container.
    pub address: IpAddr,
    /// At which port.
    pub port: u16,
}
