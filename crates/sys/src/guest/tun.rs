//! Network interfaces: a TUN device, and addresses by the old ioctls, which need no netlink.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// A step of making an interface that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step} of interface {name}")]
pub struct TunError {
    step: &'static str,
    name: String,
    source: io::Error,
}

/// Makes the TUN interface `name` and returns its descriptor, which does not block. Packets are IP behind a
/// `struct virtio_net_hdr` (10 bytes); the kernel leaves checksums of what it writes to the reader.
pub fn open_tun(name: &str) -> Result<OwnedFd, TunError> {
    let failed = |step| move |source: io::Error| TunError { step, name: name.to_owned(), source };
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    let fd = rustix::fs::open("/dev/net/tun", flags, rustix::fs::Mode::empty());
    let fd = fd.map_err(|error| failed("opening")(error.into()))?;
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the descriptor is of /dev/net/tun and `request` is a whole `struct ifreq` that lives over the call.
    let made = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if made < 0 {
        return Err(failed("making")(io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is of a TUN interface, and this call takes flags, no pointer.
    let offloaded =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(libc::TUN_F_CSUM)) };
    if offloaded < 0 { Err(failed("offloading checksums")(io::Error::last_os_error())) } else { Ok(fd) }
}

/// Gives an interface its address and MTU where given, and brings it up.
pub fn bring_up(name: &str, address: Option<(Ipv4Addr, u8)>, mtu: Option<u32>) -> Result<(), TunError> {
    let failed = |step| move |source: io::Error| TunError { step, name: name.to_owned(), source };
    let family = rustix::net::AddressFamily::INET;
    let socket = rustix::net::socket(family, rustix::net::SocketType::DGRAM, None);
    let socket = socket.map_err(|error| failed("configuring")(error.into()))?;
    if let Some((address, prefix)) = address {
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
        for (step, number, ip) in [("addressing", libc::SIOCSIFADDR, address), ("masking", libc::SIOCSIFNETMASK, mask)]
        {
            let mut request = request(name);
            request.ifr_ifru.ifru_addr = socket_address(ip);
            call(&socket, number, &mut request).map_err(failed(step))?;
        }
    }
    if let Some(mtu) = mtu {
        let mut request = request(name);
        request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        call(&socket, libc::SIOCSIFMTU, &mut request).map_err(failed("setting the MTU"))?;
    }
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    call(&socket, libc::SIOCSIFFLAGS, &mut request).map_err(failed("bringing up"))
}

/// Sends everything that is not for a connected network out of interface `name`.
pub fn route_default(name: &str, gateway: Ipv4Addr) -> Result<(), TunError> {
    let failed = |step| move |source: io::Error| TunError { step, name: name.to_owned(), source };
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    let socket = socket.map_err(|error| failed("configuring")(error.into()))?;
    // SAFETY: `struct rtentry` is plain data for which all zeros is a value: no gateway, no device, no flags.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: the descriptor is a socket and `route` is a whole `struct rtentry` that lives over the call.
    let added = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) };
    if added < 0 { Err(failed("routing")(io::Error::last_os_error())) } else { Ok(()) }
}

fn call(socket: &OwnedFd, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: the descriptor is a socket, and every number used here takes a `struct ifreq`, which lives over the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &raw mut *request) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: `struct ifreq` is plain data for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request
}

fn socket_address(ip: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = ip.octets().map(|octet| octet as libc::c_char);
    // `struct sockaddr_in` seen as `struct sockaddr`: two bytes of port, then the address in network order.
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0],
    }
}
