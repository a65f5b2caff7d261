//! How a VM reaches the world.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A network mode of `--network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// Connections and datagrams travel over the link and start on the host, as any user.
    Rootless {
        /// What the gateway's address means.
        #[serde(default)]
        host: HostLoopback,
    },
    /// Loopback only.
    None,
    /// The default: [`NetworkMode::Rootless`] without the host's loopback.
    #[default]
    Default,
}

/// Whether a guest may reach services on the host's own loopback by its gateway's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostLoopback {
    /// It may not; podman's default too.
    #[default]
    Closed,
    /// It may: `--network rootless:allow_host_loopback=true`.
    Open,
}

impl NetworkMode {
    /// Returns what the gateway means in this mode.
    pub fn host_loopback(self) -> HostLoopback {
        match self {
            Self::Rootless { host } => host,
            Self::None | Self::Default => HostLoopback::Closed,
        }
    }
}

impl FromStr for NetworkMode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |expected: &str| Invalid::new("network", text, expected);
        let (mode, options) = text.split_once(':').unwrap_or((text, ""));
        match mode {
            "none" if options.is_empty() => return Ok(Self::None),
            "rootless" | "slirp4netns" | "pasta" => {}
            "host" => {
                return Err(wrong("a VM has a kernel and a network of its own; use rootless or none"));
            }
            "bridge" | "bridged" | "routed" => {
                return Err(wrong("this mode is not there yet; use rootless or none"));
            }
            _ => return Err(wrong("rootless or none is expected")),
        }
        let host = match options {
            "" | "allow_host_loopback=false" => HostLoopback::Closed,
            "allow_host_loopback=true" => HostLoopback::Open,
            _ => {
                return Err(wrong("the only option of rootless is allow_host_loopback=true|false"));
            }
        };
        Ok(Self::Rootless { host })
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Rootless { host: HostLoopback::Open } => "rootless:allow_host_loopback=true",
            Self::Default | Self::Rootless { .. } => "rootless",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_survives_its_text() {
        for text in ["none", "rootless", "rootless:allow_host_loopback=true"] {
            assert_eq!(text.parse::<NetworkMode>().map(|mode| mode.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn modes_that_are_not_there_are_refused_by_name() {
        for text in ["", "host", "bridge", "none:x", "rootless:port_handler=x", "container:abc"] {
            assert!(text.parse::<NetworkMode>().is_err(), "{text}");
        }
    }
}
