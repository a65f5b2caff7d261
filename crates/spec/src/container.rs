//! The container inside a VM: what `podman run` says about its process and its file system.

use crate::{Invalid, Signal, VolumeSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The container that was asked for. Absent values come from the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Arguments after the image.
    pub command: Vec<String>,
    /// `--entrypoint`; an empty list clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `KEY=VALUE`, later ones win. Secret: kept in files of mode 0600 only.
    pub env: Vec<String>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`, `USER[:GROUP]` by name or number.
    pub user: Option<String>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `--volume` and `--mount`. A volume's number is its place here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`, without the `CAP_` prefix, in capitals; `ALL` is allowed.
    pub cap_add: Vec<String>,
    /// `--cap-drop`, likewise.
    pub cap_drop: Vec<String>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--tty`: its streams are a terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// `--init`: the agent's own small init is the container's first process.
    pub init: bool,
    /// `--stop-signal`.
    pub stop_signal: Option<Signal>,
    /// `--stop-timeout` in seconds.
    pub stop_timeout: Option<u32>,
    /// `--dns`.
    pub dns: Vec<IpAddr>,
    /// `--add-host`.
    pub add_host: Vec<HostEntry>,
    /// `--memory`: what the container may use, in bytes; the machine has a little more.
    pub memory: Option<u64>,
    /// `--cpus` in thousandths of a processor; the machine has that many, rounded up.
    pub cpu_milli: Option<u32>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--log-opt max-size` in bytes: of each of the two files of its log.
    pub log_max_size: Option<u64>,
    /// The command line by which it was asked for. As secret as the variables in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub typed: Vec<String>,
    /// `--engine`.
    #[serde(skip_serializing_if = "Engine::is_default")]
    pub engine: Engine,
}

/// What runs the container in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// crun, started by the agent.
    #[default]
    Crun,
    /// A whole Podman, which can be asked about it and can run others beside it.
    Podman,
}

impl Engine {
    /// Whether it is the one that is taken where none is named.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A file system in memory, `--tmpfs PATH[:OPTIONS]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub path: String,
    /// Mount options, for example `size=64m`.
    pub options: Vec<String>,
}

impl Tmpfs {
    /// Parses `PATH[:OPTION,…]`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || path.contains('\0') {
            return Err(Invalid::new("tmpfs", text, "an absolute path is expected, for example /tmp:size=64m"));
        }
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        Ok(Self { path: path.to_owned(), options })
    }
}

/// A line of `/etc/hosts`, `--add-host NAME:IP`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The host's name.
    pub name: String,
    /// Its address; `host-gateway` has become none.
    pub address: Option<IpAddr>,
}

impl HostEntry {
    /// Parses `NAME:IP` or `NAME:host-gateway`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("host entry", text, "NAME:IP is expected, for example db:10.0.0.5");
        let (name, address) = text.split_once(':').ok_or_else(wrong)?;
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let address = match address {
            "host-gateway" => None,
            address => Some(address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?),
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

/// A resource limit, `--ulimit NAME=SOFT[:HARD]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// The limit's name without `RLIMIT_`, in lower case.
    pub name: String,
    /// The soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// Parses `NAME=SOFT[:HARD]`, where -1 is unlimited.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong =
            || Invalid::new("ulimit", text, format!("NAME=SOFT[:HARD] is expected, with NAME of {}", LIMITS.join(" ")));
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let name = name.to_ascii_lowercase();
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let limit = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            text => text.parse::<u64>().map_err(|_| wrong()),
        };
        let (soft, hard) = (limit(soft)?, limit(hard)?);
        if !LIMITS.contains(&name.as_str()) || soft > hard {
            return Err(wrong());
        }
        Ok(Self { name, soft, hard })
    }
}

/// Capabilities of a container that asks for nothing, as podman 4 gives them.
pub const DEFAULT_CAPABILITIES: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// All capabilities of Linux, by number.
pub const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Parses a capability's name in any of podman's spellings; `ALL` stands for itself.
pub fn parse_capability(text: &str) -> Result<String, Invalid> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    Err(Invalid::new("capability", text, "a name of capabilities(7) is expected, for example NET_ADMIN"))
}

impl ContainerSpec {
    /// Returns the capabilities that the container has, with their `CAP_` prefix, by number.
    pub fn capabilities(&self) -> Vec<String> {
        let all = |list: &[String]| list.iter().any(|name| name == "ALL");
        let has = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
        let kept = |name: &&&str| {
            let base =
                self.privileged || all(&self.cap_add) || (DEFAULT_CAPABILITIES.contains(*name) && !all(&self.cap_drop));
            (base || has(&self.cap_add, name)) && !has(&self.cap_drop, name)
        };
        CAPABILITIES.iter().filter(kept).map(|name| format!("CAP_{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_follow_add_and_drop() {
        let names = |add: &[&str], drop: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            ContainerSpec { cap_add: list(add), cap_drop: list(drop), ..Default::default() }.capabilities()
        };
        assert_eq!(names(&[], &[]).len(), 11);
        assert_eq!(names(&[], &["ALL"]), Vec::<String>::new());
        assert_eq!(names(&["NET_ADMIN"], &["ALL"]), ["CAP_NET_ADMIN"]);
        assert_eq!(names(&["ALL"], &["SYS_ADMIN"]).len(), CAPABILITIES.len() - 1);
        assert!(!names(&[], &["CHOWN"]).contains(&"CAP_CHOWN".to_owned()));
    }

    #[test]
    fn limits_hosts_and_tmpfs_are_parsed_or_refused() {
        assert_eq!(Ulimit::parse("nofile=10:20"), Ok(Ulimit { name: "nofile".into(), soft: 10, hard: 20 }));
        for bad in ["nofile", "x=1", "nofile=2:1", "nofile=a"] {
            assert!(Ulimit::parse(bad).is_err(), "{bad}");
        }
        assert!(HostEntry::parse("db:::1").is_ok());
        assert!(HostEntry::parse("db").is_err());
        assert!(Tmpfs::parse("tmp").is_err());
    }
}
