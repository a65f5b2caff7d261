//! The one little network that every guest sees, and what an address in it means on the host.

use fcvm_spec::network::HostLoopback;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The length of the network's prefix.
pub const PREFIX: u8 = 24;
/// The gateway: the host's loopback where that is open, nothing elsewhere.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The resolver: the host's name servers.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

const DNS: u16 = 53;
const ECONNREFUSED: i32 = rustix::io::Errno::CONNREFUSED.raw_os_error();
const ENETUNREACH: i32 = rustix::io::Errno::NETUNREACH.raw_os_error();
const EACCES: i32 = rustix::io::Errno::ACCESS.raw_os_error();

/// What a guest's destinations mean.
#[derive(Clone, Debug)]
pub struct Translation {
    /// Whether the gateway is the host's loopback.
    pub host_loopback: HostLoopback,
    /// The host's name servers, best first.
    pub nameservers: Vec<SocketAddr>,
}

impl Translation {
    /// Returns where on the host's side a destination of the guest is, or the error number that the guest's program sees.
    ///
    /// The host's own loopback, its links and its broadcast domains are not the guest's to reach: a metadata service on
    /// 169.254.169.254 gives the host's credentials to whoever asks. A guest
    /// finds its own there, in its owner: [`crate::metadata`].
    pub fn translate(&self, address: IpAddr, port: u16) -> Result<SocketAddr, i32> {
        let address = address.to_canonical();
        if address == IpAddr::V4(RESOLVER) {
            let first = self.nameservers.first().copied().filter(|_| port == DNS);
            return first.ok_or(ECONNREFUSED);
        }
        if address == IpAddr::V4(GATEWAY) {
            return match self.host_loopback {
                HostLoopback::Open => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
                HostLoopback::Closed => Err(ECONNREFUSED),
            };
        }
        let ours = |ip: Ipv4Addr| ip.octets()[..3] == GUEST.octets()[..3];
        let nowhere = address.is_loopback() || address.is_unspecified() || address.is_multicast();
        match address {
            IpAddr::V4(ip) if nowhere || ip.is_broadcast() || ours(ip) => Err(ENETUNREACH),
            IpAddr::V6(_) if nowhere => Err(ENETUNREACH),
            IpAddr::V4(ip) if ip.is_link_local() => Err(EACCES),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(EACCES),
            address => Ok(SocketAddr::new(address, port)),
        }
    }
}

/// Reads the name servers of a `resolv.conf`.
pub fn nameservers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let (word, rest) = line.trim().split_once(char::is_whitespace)?;
        let address = rest.split_whitespace().next()?.split('%').next()?;
        (word == "nameserver").then(|| address.parse().ok())?
    };
    resolv_conf.lines().filter_map(address).map(|ip: IpAddr| SocketAddr::new(ip, DNS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translation(host_loopback: HostLoopback) -> Translation {
        Translation {
            host_loopback,
            nameservers: nameservers("# x\nnameserver 127.0.0.53\nsearch a\nnameserver ::1\n"),
        }
    }

    fn to(text: &str) -> Result<SocketAddr, i32> {
        let (ip, port) = text.rsplit_once(' ').unwrap();
        translation(HostLoopback::Closed).translate(ip.parse().unwrap(), port.parse().unwrap())
    }

    #[test]
    fn the_hosts_own_places_are_not_the_guests_to_reach() {
        for place in [
            "127.0.0.1 22",
            "::1 22",
            "0.0.0.0 22",
            "::ffff:127.0.0.1 22",
            "10.0.2.7 22",
            "255.255.255.255 67",
            "224.0.0.1 1",
        ] {
            assert_eq!(to(place), Err(ENETUNREACH), "{place}");
        }
        for place in ["169.254.169.254 80", "fe80::1 80"] {
            assert_eq!(to(place), Err(EACCES), "{place}");
        }
        assert_eq!(to("10.0.2.2 22"), Err(ECONNREFUSED));
    }

    #[test]
    fn the_world_stays_as_it_is() {
        assert_eq!(to("192.0.2.1 80"), Ok("192.0.2.1:80".parse().unwrap()));
        assert_eq!(to("2001:db8::1 80"), Ok("[2001:db8::1]:80".parse().unwrap()));
    }

    #[test]
    fn the_resolver_is_the_hosts_for_names_only() {
        assert_eq!(to("10.0.2.3 53"), Ok("127.0.0.53:53".parse().unwrap()));
        assert_eq!(to("10.0.2.3 80"), Err(ECONNREFUSED));
    }

    #[test]
    fn the_gateway_is_the_hosts_loopback_when_that_was_asked_for() {
        let open = translation(HostLoopback::Open).translate(GATEWAY.into(), 80);
        assert_eq!(open, Ok("127.0.0.1:80".parse().unwrap()));
    }
}
