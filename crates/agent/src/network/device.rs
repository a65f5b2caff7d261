//! The TUN interface as smoltcp's device: it is given one packet at a time and writes packets at once.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use std::fs::File;
use std::io::Write;
use std::rc::Rc;

/// Bytes of the largest packet: nothing of these packets ever touches a wire, so they are as large as they may be.
pub(super) const MTU: u32 = 65_520;

/// The device.
pub(super) struct Device {
    tun: Rc<File>,
    packet: Option<Vec<u8>>,
}

impl Device {
    pub(super) fn new(tun: Rc<File>) -> Self {
        Self { tun, packet: None }
    }

    /// Puts a packet where the stack takes it.
    pub(super) fn give(&mut self, packet: &[u8]) {
        self.packet = Some(packet.to_vec());
    }

    /// Writes a packet of our own making.
    pub(super) fn write(&self, packet: &[u8]) {
        write(&self.tun, packet);
    }
}

/// Writes a packet; one that the kernel has no room for is lost, as on a wire.
pub(super) fn write(mut tun: &File, packet: &[u8]) {
    let _ = tun.write(packet);
}

impl phy::Device for Device {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.packet.take()?;
        Some((Received(packet), Sending(&self.tun)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&self.tun))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU as usize;
        // What comes has not left this machine; what goes is checked by the kernel.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A packet for the stack.
pub(super) struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a packet of the stack.
pub(super) struct Sending<'a>(&'a File);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        write(self.0, &packet);
        result
    }
}
