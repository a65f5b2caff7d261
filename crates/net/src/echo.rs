//! Echo requests of ICMP (`ping`), sent by sockets that need no privilege where the host lets them be made
//! (`net.ipv4.ping_group_range`), and by raw ones as root.
//!
//! ```text
//!  0      1      2          4            6                 8
//! ┌──────┬──────┬──────────┬────────────┬─────────────────┬────────
//! │ type │ code │ checksum │ identifier │ sequence number │ data …      RFC 792; a frame of the stream is the last two
//! └──────┴──────┴──────────┴────────────┴─────────────────┴────────
//! ```

use crate::udp::{Connected, LARGEST};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use tokio::net::UdpSocket;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Bytes before the sequence number.
const HEAD: usize = 6;

/// A socket that asks one address.
#[derive(Debug)]
pub(crate) struct EchoSocket {
    /// To the runtime any socket of datagrams is one of UDP.
    socket: UdpSocket,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel chooses the identifier and passes only what answers it.
    Ping,
    /// All that comes from the address is seen, behind its IP header; this identifier is ours.
    Raw(u16),
}

impl EchoSocket {
    /// Opens one.
    pub(crate) fn open(address: Ipv4Addr) -> io::Result<Self> {
        let make = |kind| {
            socket_with(AddressFamily::INET, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, Some(ipproto::ICMP))
        };
        let (socket, kind) = match make(SocketType::DGRAM) {
            Err(Errno::ACCESS | Errno::PERM) => (make(SocketType::RAW)?, Kind::Raw(random_identifier()?)),
            made => (made?, Kind::Ping),
        };
        rustix::net::connect(&socket, &SocketAddrV4::new(address, 0))?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, kind })
    }
}

impl Connected for EchoSocket {
    async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let identifier = if let Kind::Raw(identifier) = self.kind { identifier } else { 0 };
        self.socket.send(&request(identifier, datagram)).await.map(drop)
    }

    async fn receive(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut packet = vec![0; LARGEST];
        loop {
            let length = self.socket.recv(&mut packet).await?;
            if let Some(answer) = answer(self.kind, &packet[..length])
                && let Some(place) = room.get_mut(..answer.len())
            {
                place.copy_from_slice(answer);
                return Ok(answer.len());
            }
        }
    }
}

fn random_identifier() -> io::Result<u16> {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}

/// The message that asks: a sequence number and data behind a head.
fn request(identifier: u16, datagram: &[u8]) -> Vec<u8> {
    let mut message = vec![ECHO_REQUEST, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(datagram);
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

/// What answers us in a packet, from the sequence number on.
fn answer(kind: Kind, packet: &[u8]) -> Option<&[u8]> {
    let message = match kind {
        Kind::Ping => packet,
        Kind::Raw(_) => packet.get(usize::from(packet.first()? & 0xf) * 4..)?,
    };
    let (head, rest) = message.split_at_checked(HEAD)?;
    let ours = match kind {
        Kind::Ping => true,
        Kind::Raw(identifier) => head[4..] == identifier.to_be_bytes(),
    };
    (head[0] == ECHO_REPLY && ours).then_some(rest)
}

/// RFC 1071: the inverted sum in ones' complement.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_up_to_nothing() {
        for data in [&b"\0\x01"[..], b"\0\x01odd", &[0xff; LARGEST]] {
            assert_eq!(checksum(&request(7, data)), 0);
        }
    }

    #[test]
    fn only_answers_to_us_are_answers() {
        let reply = |kind: u8, identifier: u8| [kind, 0, 9, 9, 0, identifier, 0, 1, b'x'];
        assert_eq!(answer(Kind::Ping, &reply(0, 5)), Some(&b"\0\x01x"[..]));
        assert_eq!(answer(Kind::Ping, &reply(8, 5)), None);
        let behind_ip = |message: [u8; 9]| [&[0x45][..], &[0; 19], &message].concat();
        assert_eq!(answer(Kind::Raw(5), &behind_ip(reply(0, 5))), Some(&b"\0\x01x"[..]));
        assert_eq!(answer(Kind::Raw(5), &behind_ip(reply(0, 6))), None);
        for length in 0..26 {
            assert_eq!(answer(Kind::Raw(5), &behind_ip(reply(0, 5))[..length]), None, "{length}");
        }
    }
}
