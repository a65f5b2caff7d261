//! IPv4 packets of the guest's programs, told apart; and the packets that answer them without a connection.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpPacket,
    UdpPacket, UdpRepr,
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// What a packet is.
pub(super) enum Kind<'p> {
    Tcp(Head),
    Datagram(Datagram<'p>),
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

/// Whose datagrams belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flow {
    /// UDP between two places.
    Udp(Pair),
    /// Echo requests with one identifier, and their answers.
    Echo { from: Ipv4Addr, to: Ipv4Addr, ident: u16 },
}

/// A datagram. An echo's payload is its sequence number and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram<'p> {
    pub(super) flow: Flow,
    pub(super) payload: &'p [u8],
}

/// Bytes of an ICMP message before an echo's sequence number.
const ECHO_HEAD: usize = 6;

/// Tells what a packet is; none for anything but whole TCP and UDP packets and echo requests of IPv4.
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
            let flow = Flow::Udp(pair(udp.src_port(), udp.dst_port()));
            Some(Kind::Datagram(Datagram { flow, payload: bytes.get(8..usize::from(udp.len()))? }))
        }
        IpProtocol::Icmp => {
            let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
            if icmp.msg_type() != Icmpv4Message::EchoRequest {
                return None;
            }
            let flow = Flow::Echo { from: ip.src_addr(), to: ip.dst_addr(), ident: icmp.echo_ident() };
            Some(Kind::Datagram(Datagram { flow, payload: ip.payload().get(ECHO_HEAD..)? }))
        }
        _ => None,
    }
}

/// The datagram that answers those of a flow.
pub(super) fn reply(flow: Flow, payload: &[u8]) -> Vec<u8> {
    match flow {
        Flow::Udp(pair) => udp_reply(pair, payload),
        Flow::Echo { from, to, ident } => echo_reply((from, to), ident, payload),
    }
}

fn udp_reply(pair: Pair, payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: pair.to.port(), dst_port: pair.from.port() };
    let checksums = ChecksumCapabilities::default();
    let ip = answering((*pair.from.ip(), *pair.to.ip()), IpProtocol::Udp, udp.header_len() + payload.len());
    let mut packet = packet_of(&ip);
    let (source, destination) = (ip.src_addr.into(), ip.dst_addr.into());
    let mut body = UdpPacket::new_unchecked(&mut packet[ip.buffer_len()..]);
    udp.emit(&mut body, &source, &destination, payload.len(), |room| room.copy_from_slice(payload), &checksums);
    packet
}

fn echo_reply(ends: (Ipv4Addr, Ipv4Addr), ident: u16, payload: &[u8]) -> Vec<u8> {
    let ip = answering(ends, IpProtocol::Icmp, ECHO_HEAD + payload.len());
    let mut packet = packet_of(&ip);
    let mut icmp = Icmpv4Packet::new_unchecked(&mut packet[ip.buffer_len()..]);
    icmp.set_msg_type(Icmpv4Message::EchoReply);
    icmp.set_echo_ident(ident);
    icmp.into_inner()[ECHO_HEAD..].copy_from_slice(payload);
    Icmpv4Packet::new_unchecked(&mut packet[ip.buffer_len()..]).fill_checksum();
    packet
}

/// What of a packet is needed to say that it cannot be delivered: as a packet of its own, the header and the first eight
/// bytes behind it, by which its sender finds its socket.
pub(super) fn beginning(packet: &[u8]) -> Option<Vec<u8>> {
    let header = Ipv4Packet::new_checked(packet).ok()?.header_len();
    let length = u16::from(header) + 8;
    let mut beginning = packet.get(..usize::from(length))?.to_vec();
    Ipv4Packet::new_unchecked(&mut beginning).set_total_len(length);
    Some(beginning)
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

/// The header of what goes back to the first of two ends.
fn answering((from, to): (Ipv4Addr, Ipv4Addr), next_header: IpProtocol, payload_len: usize) -> Ipv4Repr {
    Ipv4Repr { src_addr: to, dst_addr: from, next_header, payload_len, hop_limit: HOPS }
}

/// A packet that has its header only.
fn packet_of(ip: &Ipv4Repr) -> Vec<u8> {
    let mut packet = vec![0; ip.buffer_len() + ip.payload_len];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &ChecksumCapabilities::default());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair { from: "10.0.2.100:4000".parse().unwrap(), to: "192.0.2.1:53".parse().unwrap() }
    }

    #[test]
    fn a_reply_goes_back_the_way_the_question_came() {
        let packet = reply(Flow::Udp(pair()), b"answer");
        let Some(Kind::Datagram(datagram)) = kind(&packet) else { panic!("no datagram") };
        assert_eq!(datagram.payload, b"answer");
        assert_eq!(datagram.flow, Flow::Udp(Pair { from: pair().to, to: pair().from }));
    }

    #[test]
    fn an_echo_comes_back_with_its_identifier_and_a_checksum() {
        let flow = Flow::Echo { from: *pair().from.ip(), to: *pair().to.ip(), ident: 7 };
        let mut packet = reply(flow, b"\0\x01data");
        assert!(kind(&packet).is_none(), "an answer is no question");
        let icmp = Icmpv4Packet::new_checked(&packet[20..]).unwrap();
        assert!(icmp.verify_checksum());
        assert_eq!((icmp.echo_ident(), icmp.echo_seq_no(), icmp.data()), (7, 1, &b"data"[..]));
        packet[20] = 8;
        let Some(Kind::Datagram(echo)) = kind(&packet) else { panic!("no echo") };
        assert_eq!((echo.payload, matches!(echo.flow, Flow::Echo { ident: 7, .. })), (&b"\0\x01data"[..], true));
    }

    #[test]
    fn an_undeliverable_packet_is_answered_to_its_sender() {
        let packet = reply(Flow::Udp(pair()), b"question");
        let message = unreachable(&beginning(&packet).unwrap(), rustix::io::Errno::ACCESS.raw_os_error()).unwrap();
        let ip = Ipv4Packet::new_checked(&message[..]).unwrap();
        assert_eq!((ip.next_header(), ip.dst_addr()), (IpProtocol::Icmp, *pair().to.ip()));
    }

    #[test]
    fn what_is_cut_or_foreign_is_nothing() {
        let packet = reply(Flow::Udp(pair()), b"question");
        for length in 0..packet.len() {
            assert!(kind(&packet[..length]).is_none() && beginning(&packet[..length]).is_none(), "{length}");
        }
        assert!(kind(&[0x60; 60]).is_none());
    }
}
