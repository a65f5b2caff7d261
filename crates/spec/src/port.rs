//! Published ports: `[[IP]:][HOSTPORT]:PORT[/tcp|udp]` with ranges, as podman's `--publish`.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A transport protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// One port of the container on one port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address to listen on.
    pub host_ip: IpAddr,
    /// The host's port; 0 lets the host choose one when the VM starts.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// The address to listen on where none is asked for: this host only.
pub const DEFAULT_HOST_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl PortMapping {
    /// Parses one value of `--publish`, which may be a range and then gives several mappings.
    pub fn parse(text: &str) -> Result<Vec<Self>, Invalid> {
        const EXPECTED: &str = "[IP:][HOSTPORT:]PORT[/tcp|udp] is expected, for example 127.0.0.1:8080:80";
        let wrong = |why: &str| Invalid::new("port mapping", text, why);
        let (address, protocol) = match text.rsplit_once('/') {
            None => (text, Protocol::Tcp),
            Some((rest, "tcp")) => (rest, Protocol::Tcp),
            Some((rest, "udp")) => (rest, Protocol::Udp),
            Some(_) => return Err(wrong("the protocol must be tcp or udp")),
        };
        let (address, container) = address.rsplit_once(':').unwrap_or(("", address));
        let container = range(container).filter(|range| range.0 > 0).ok_or_else(|| wrong(EXPECTED))?;
        let (ip, host) = host_side(address).ok_or_else(|| wrong(EXPECTED))?;
        let host = match host {
            None => vec![0; width(container)],
            Some(host) if width(host) == width(container) => (host.0..=host.1).collect(),
            Some(_) => return Err(wrong("the two ranges must be equally long")),
        };
        let mapping = |(host_port, container_port)| Self { host_ip: ip, host_port, container_port, protocol };
        Ok(host.into_iter().zip(container.0..=container.1).map(mapping).collect())
    }
}

impl fmt::Display for PortMapping {
    /// Writes podman's form in `ps`: `127.0.0.1:8080->80/tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = std::net::SocketAddr::new(self.host_ip, self.host_port);
        write!(f, "{host}->{}/{}", self.container_port, self.protocol)
    }
}

/// The part before the container's port: an address, a port or range, both, or nothing.
fn host_side(text: &str) -> Option<(IpAddr, Option<(u16, u16)>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        return Some((ip.parse().ok()?, optional_range(port.strip_prefix(':').unwrap_or(""))?));
    }
    match text.split_once(':') {
        Some((ip, port)) => {
            Some((if ip.is_empty() { DEFAULT_HOST_IP } else { ip.parse().ok()? }, optional_range(port)?))
        }
        None => match text.parse::<Ipv4Addr>() {
            Ok(ip) => Some((ip.into(), None)),
            Err(_) => Some((DEFAULT_HOST_IP, optional_range(text)?)),
        },
    }
}

fn optional_range(text: &str) -> Option<Option<(u16, u16)>> {
    if text.is_empty() { Some(None) } else { range(text).map(Some) }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    (from <= to).then_some((from, to))
}

fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn width(range: (u16, u16)) -> usize {
    usize::from(range.1 - range.0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        PortMapping::parse(text).expect(text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_form_of_podman_is_understood() {
        assert_eq!(shown("8080:80"), ["127.0.0.1:8080->80/tcp"]);
        assert_eq!(shown("80"), ["127.0.0.1:0->80/tcp"]);
        assert_eq!(shown("0.0.0.0:53:53/udp"), ["0.0.0.0:53->53/udp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1:0->80/tcp"]);
        assert_eq!(shown("127.0.0.1:80"), ["127.0.0.1:0->80/tcp"]);
        assert_eq!(shown("[::1]:8080:80"), ["[::1]:8080->80/tcp"]);
        assert_eq!(shown("8000-8001:80-81"), ["127.0.0.1:8000->80/tcp", "127.0.0.1:8001->81/tcp"]);
    }

    #[test]
    fn what_is_no_mapping_is_refused() {
        for text in
            ["", ":", "0", "80:0", "80:80/sctp", "1-2:1-3", "2-1", "65536", "x:80", "1:2:3:4", "+80:80", "[::1:80"]
        {
            assert!(PortMapping::parse(text).is_err(), "{text}");
        }
    }
}
