//! The TUN interface as smoltcp's device: it holds one packet at a time and writes packets at once.
//!
//! ```text
//!  0       1       2              4          6            8              10
//! ┌───────┬───────┬──────────────┬──────────┬────────────┬───────────────┬─────────
//! │ flags │ 0     │ 0            │ 0        │ start      │ offset        │ packet …   little-endian on all that we run on
//! └───────┴───────┴──────────────┴──────────┴────────────┴───────────────┴─────────
//! ```
//! is `struct virtio_net_hdr`, by which the kernel and we tell each other that a checksum is not worth computing: these
//! packets never leave the machine.

use rustix::io::Errno;
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::{IpProtocol, Ipv4Packet};
use std::fs::File;
use std::io::{self, IoSlice};
use std::rc::Rc;
use tokio::net::unix::pipe;

/// Bytes of the largest packet: nothing of these packets ever touches a wire, so they are as large as they may be.
pub(super) const MTU: u32 = 65_520;

/// Bytes before each packet.
const HEAD: usize = 10;
/// A checksum is left to whoever needs it: the sum of the bytes from `start` goes to `offset` behind it.
const NEEDS_CHECKSUM: u8 = 1;
/// Where a TCP header has its checksum.
const TCP_CHECKSUM: u16 = 16;

/// The device.
pub(super) struct Device {
    tun: Rc<File>,
    /// The packet that was read last, behind its head.
    inbound: Vec<u8>,
    length: usize,
    /// Whether the stack has not taken it yet.
    given: bool,
    outbound: Vec<u8>,
}

impl Device {
    pub(super) fn new(tun: Rc<File>) -> Self {
        let room = HEAD + MTU as usize;
        Self { tun, inbound: vec![0; room], length: HEAD, given: false, outbound: vec![0; MTU as usize] }
    }

    /// Reads the next packet, if there is one.
    pub(super) fn read(&mut self, reader: &pipe::Receiver) -> io::Result<()> {
        self.length = HEAD.max(reader.try_read(&mut self.inbound)?);
        Ok(())
    }

    /// The packet that was read last.
    pub(super) fn packet(&self) -> &[u8] {
        &self.inbound[HEAD..self.length]
    }

    /// Lets the stack take the packet that was read last.
    pub(super) fn give(&mut self) {
        self.given = true;
    }

    /// Writes a packet of our own making.
    pub(super) fn write(&self, packet: &[u8]) {
        write(&self.tun, packet);
    }
}

/// Writes a packet with all of its checksums; one that the kernel has no room for is lost, as on a wire.
pub(super) fn write(tun: &File, packet: &[u8]) {
    write_after(tun, [0; HEAD], packet);
}

fn write_after(tun: &File, head: [u8; HEAD], packet: &[u8]) {
    while rustix::io::writev(tun, &[IoSlice::new(&head), IoSlice::new(packet)]) == Err(Errno::INTR) {}
}

/// Completes a segment of the stack and returns the head that it goes behind. Its checksum is the one of the addresses
/// only, as the kernel wants it where the rest is left to it.
fn leave_checksum(packet: &mut [u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let Ok(ip) = Ipv4Packet::new_checked(&*packet) else { return head };
    if ip.next_header() != IpProtocol::Tcp {
        return head;
    }
    let start = u16::from(ip.header_len());
    let words = [ip.src_addr(), ip.dst_addr()].map(|address| u32::from_be_bytes(address.octets()));
    let length = u32::from(ip.total_len() - start);
    let sum = words.iter().map(|word| (word >> 16) + (word & 0xffff)).sum::<u32>()
        + u32::from(u8::from(IpProtocol::Tcp))
        + length;
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let place = usize::from(start + TCP_CHECKSUM);
    if let Some(checksum) = packet.get_mut(place..place + 2) {
        checksum.copy_from_slice(&folded.to_be_bytes()[2..]);
        head[0] = NEEDS_CHECKSUM;
        head[6..8].copy_from_slice(&start.to_le_bytes());
        head[8..10].copy_from_slice(&TCP_CHECKSUM.to_le_bytes());
    }
    head
}

impl phy::Device for Device {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        if !std::mem::take(&mut self.given) {
            return None;
        }
        let sending = Sending { tun: &self.tun, room: &mut self.outbound };
        Some((Received(&self.inbound[HEAD..self.length]), sending))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending { tun: &self.tun, room: &mut self.outbound })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU as usize;
        // What comes has not left this machine.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

/// A packet for the stack.
pub(super) struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a packet of the stack.
pub(super) struct Sending<'a> {
    tun: &'a File,
    room: &'a mut Vec<u8>,
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let packet = &mut self.room[..length];
        let result = f(packet);
        let head = leave_checksum(packet);
        write_after(self.tun, head, packet);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Ipv4Repr, TcpPacket};
    use std::net::Ipv4Addr;

    /// A segment without options that carries these bytes and no checksum.
    fn segment(payload: &[u8]) -> Vec<u8> {
        let (src_addr, dst_addr) = ([192, 0, 2, 1].into(), [10, 0, 2, 100].into());
        let payload_len = 20 + payload.len();
        let ip = Ipv4Repr { src_addr, dst_addr, next_header: IpProtocol::Tcp, payload_len, hop_limit: 64 };
        let mut packet = vec![0; ip.buffer_len() + payload_len];
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &ChecksumCapabilities::default());
        let mut tcp = TcpPacket::new_unchecked(&mut packet[20..]);
        tcp.set_src_port(80);
        tcp.set_dst_port(4000);
        tcp.set_header_len(20);
        tcp.payload_mut().copy_from_slice(payload);
        packet
    }

    #[test]
    fn a_checksum_that_is_left_to_the_kernel_comes_out_right() {
        let mut packet = segment(b"odd");
        let head = leave_checksum(&mut packet);
        assert_eq!(head, [NEEDS_CHECKSUM, 0, 0, 0, 0, 0, 20, 0, 16, 0]);
        // What the kernel does: the sum of all from `start`, inverted.
        let sum: u32 =
            packet[20..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
        let folded = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        packet[36..38].copy_from_slice(&folded.to_be_bytes());
        let tcp = TcpPacket::new_checked(&packet[20..]).unwrap();
        assert!(tcp.verify_checksum(&Ipv4Addr::new(192, 0, 2, 1).into(), &Ipv4Addr::new(10, 0, 2, 100).into()));
    }

    #[test]
    fn what_is_no_segment_is_left_alone() {
        let mut packet = segment(b"");
        packet[9] = 17;
        let before = packet.clone();
        assert_eq!((leave_checksum(&mut packet), packet), ([0; HEAD], before));
        for length in 0..40 {
            leave_checksum(&mut segment(b"")[..length]);
        }
    }
}
