//! The boot plan: all that the host tells a guest about itself. Computed on the host in one function.

use serde::{Deserialize, Serialize};

/// What a freshly booted guest is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The guest's and the container's host name.
    pub hostname: String,
    /// The text of `/etc/machine-id`, without its line end.
    #[serde(default)]
    pub machine_id: String,
    /// The host's time in nanoseconds since 1970, when the plan was sent.
    pub time_ns: i64,
    /// Random bytes of the host for the guest's pool, as hex.
    #[serde(default)]
    pub entropy: String,
    /// The disks, by the order in which the monitor attaches them.
    pub disks: Disks,
    /// How the guest reaches the world.
    pub network: Network,
    /// The container.
    pub container: Container,
}

/// Block devices by purpose, for example `/dev/vda`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disks {
    /// The guest system, EROFS, read-only.
    pub system: String,
    /// The container's image, EROFS, read-only.
    pub image: String,
    /// The VM's own writes, ext4.
    pub scratch: String,
    /// The user's own, each mounted at `/run/fcvm/disks/NUMBER`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<ExtraDisk>,
}

/// A disk of the user's: what is on it, the guest finds out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraDisk {
    /// The block device.
    pub device: String,
    /// Where the container sees it: what it is called in messages.
    pub target: String,
    /// Nothing is written to it.
    #[serde(default)]
    pub read_only: bool,
}

/// How the guest reaches the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Loopback only.
    None,
    /// A TUN interface `tap0` whose connections and datagrams travel over the link.
    Link {
        /// The guest's address.
        address: std::net::Ipv4Addr,
        /// The prefix length.
        prefix: u8,
        /// The gateway; connections to it reach nothing unless the host allows its own loopback.
        gateway: std::net::Ipv4Addr,
        /// The resolver that the guest's `/etc/resolv.conf` names.
        resolver: std::net::Ipv4Addr,
    },
}

/// The container to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// The OCI runtime configuration (`config.json`), complete but for the user's numbers.
    pub oci: serde_json::Value,
    /// `USER[:GROUP]` by name or number, resolved by the agent in the image's `/etc/passwd` and `/etc/group`.
    #[serde(default)]
    pub user: String,
    /// Whether the container's stdin is carried; if not it reads from `/dev/null`.
    #[serde(default)]
    pub interactive: bool,
    /// Whether the agent's small init is the container's first process, and the command its child.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// The text of `/etc/hosts`.
    pub hosts: String,
    /// The text of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Memory limit in bytes; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// What runs it.
    #[serde(default, skip_serializing_if = "Engine::is_default")]
    pub engine: Engine,
    /// How Podman is to ask whether it is well; the host says when. None with another engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Volumes that are more than what the host shows, before the container starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
}

/// A volume that is made ready in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number among the container's volumes.
    pub number: u32,
    /// Where the container sees it.
    pub target: String,
    /// Where what is written to it goes.
    #[serde(default)]
    pub keeper: Keeper,
    /// Whether it gets what the image has at its target, if it is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy: bool,
    /// Whether all in it becomes the container's user's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chown: bool,
}

/// Who keeps what is written to a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeper {
    /// The host: it is `/run/fcvm/volumes/NUMBER`.
    #[default]
    Host,
    /// The scratch disk, and all else is the host's: it is `/run/fcvm/views/NUMBER`.
    View,
    /// The scratch disk: it is `/run/fcvm/scratch/volumes/NUMBER`.
    Scratch,
}

/// A health check that Podman knows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Failures in a row that make the container unhealthy.
    pub retries: u32,
    /// Seconds for which failures mean nothing after the start.
    pub start_period_s: u64,
    /// Seconds that a check may take.
    pub timeout_s: u64,
}

/// What runs the container in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// crun, started by the agent.
    #[default]
    Crun,
    /// Podman, which the guest system then has.
    Podman,
}

impl Engine {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
