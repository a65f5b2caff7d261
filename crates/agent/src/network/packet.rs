//! IPv4 packets of the guest's programs, told apart; and the packets that answer them without a connection.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket, UdpPacket, UdpRepr,
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// What a packet is.
pub(super) enum Kind<'p> {
    Tcp(Head),
    Udp(Datagram<'p>),
}

/// Whose connection a segment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    /// The program in the guest.
    pub(super) from: SocketAddrV4,
    /// Where it wants to.
    pub(super) to: SocketAddrV4,
}

/// A segment's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) pair: Pair,
    /// Whether it asks for a new connection.
    pub(super) opens: bool,
}

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram<'p> {
    pub(super) pair: Pair,
    pub(super) payload: &'p [u8],
}

/// Tells what a packet is; none for anything but whole TCP and UDP packets of IPv4.
pub(super) fn kind(packet: &[u8]) -> Option<Kind<'_>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    if ip.more_frags() || ip.frag_offset() != 0 {
        return None;
    }
    let pair = |from: u16, to: u16| Pair {
        from: SocketAddrV4::new(ip.src_addr(), from),
        to: SocketAddrV4::new(ip.dst_addr(), to),
    };
    match ip.next_header() {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
            let opens = tcp.syn() && !tcp.ack();
            Some(Kind::Tcp(Head { pair: pair(tcp.src_port(), tcp.dst_port()), opens }))
        }
        IpProtocol::Udp => {
            let start = usize::from(ip.header_len());
            let end = usize::from(ip.total_len());
            let bytes = packet.get(start..end)?;
            let udp = UdpPacket::new_checked(bytes).ok()?;
            let pair = pair(udp.src_port(), udp.dst_port());
            Some(Kind::Udp(Datagram { pair, payload: bytes.get(8..usize::from(udp.len()))? }))
        }
        _ => None,
    }
}

/// The datagram that answers one of this pair.
pub(super) fn reply(pair: Pair, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: pair.to.port(), dst_port: pair.from.port() };
    let checksums = ChecksumCapabilities::default();
    let ip = ip(pair, IpProtocol::Udp, udp.header_len() + payload.len());
    let mut packet = vec![0; ip.buffer_len() + ip.payload_len];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
    let (source, destination) = (ip.src_addr.into(), ip.dst_addr.into());
    let mut body = UdpPacket::new_unchecked(&mut packet[ip.buffer_len()..]);
    udp.emit(&mut body, &source, &destination, payload.len(), |room| room.copy_from_slice(payload), &checksums);
    packet
}

/// The message that a packet cannot be delivered, with the reason that gives its sender this error number.
pub(super) fn unreachable(packet: &[u8], errno: i32) -> Option<Vec<u8>> {
    use rustix::io::Errno;
    let reason = match Errno::from_raw_os_error(errno) {
        Errno::NETUNREACH => Icmpv4DstUnreachable::NetUnreachable,
        Errno::ACCESS | Errno::PERM => Icmpv4DstUnreachable::CommProhibited,
        Errno::CONNREFUSED => Icmpv4DstUnreachable::PortUnreachable,
        _ => Icmpv4DstUnreachable::HostUnreachable,
    };
    let original = Ipv4Packet::new_checked(packet).ok()?;
    let checksums = ChecksumCapabilities::default();
    let header = Ipv4Repr::parse(&original, &ChecksumCapabilities::ignored()).ok()?;
    // The sender finds its socket by the first eight bytes behind the header.
    let data = original.payload().get(..8)?;
    let icmp = Icmpv4Repr::DstUnreachable { reason, header, data };
    let answer = Ipv4Repr {
        src_addr: original.dst_addr(),
        dst_addr: original.src_addr(),
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: HOPS,
    };
    let mut message = vec![0; answer.buffer_len() + answer.payload_len];
    answer.emit(&mut Ipv4Packet::new_unchecked(&mut message), &checksums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut message[answer.buffer_len()..]), &checksums);
    Some(message)
}

const HOPS: u8 = 64;

fn ip(pair: Pair, next_header: IpProtocol, payload_len: usize) -> Ipv4Repr {
    let (src_addr, dst_addr): (Ipv4Addr, Ipv4Addr) = (*pair.to.ip(), *pair.from.ip());
    Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit: HOPS }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair { from: "10.0.2.100:4000".parse().unwrap(), to: "192.0.2.1:53".parse().unwrap() }
    }

    #[test]
    fn a_reply_goes_back_the_way_the_question_came() {
        let packet = reply(pair(), b"answer");
        let Some(Kind::Udp(datagram)) = kind(&packet) else { panic!("no datagram") };
        assert_eq!(datagram.payload, b"answer");
        assert_eq!((datagram.pair.from, datagram.pair.to), (pair().to, pair().from));
    }

    #[test]
    fn an_undeliverable_packet_is_answered_to_its_sender() {
        let packet = reply(pair(), b"question");
        let message = unreachable(&packet, rustix::io::Errno::ACCESS.raw_os_error()).unwrap();
        let ip = Ipv4Packet::new_checked(&message[..]).unwrap();
        assert_eq!((ip.next_header(), ip.dst_addr()), (IpProtocol::Icmp, *pair().to.ip()));
    }

    #[test]
    fn what_is_cut_or_foreign_is_nothing() {
        let packet = reply(pair(), b"question");
        for length in 0..packet.len() {
            assert!(kind(&packet[..length]).is_none(), "{length}");
        }
        assert!(kind(&[0x60; 60]).is_none());
    }
}
