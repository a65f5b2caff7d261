//! The agent's end of the link: the port, and the greeting that begins each use of it.

use crate::boot;
use anyhow::{Context, Result};
use fcvm_link::greeting;
use fcvm_proto::message::{Hello, PROTOCOL, StreamPosition, Verdict};
use fcvm_proto::restore::RestoreReport;
use fcvm_sys::guest::Port;
use std::os::fd::AsFd;
use vsock::{VMADDR_CID_HOST, VsockStream};

/// The port of the host that is dialled over a vsock.
const VSOCK_PORT: u32 = 5000;

/// What carries the link, and who greets over it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) reader: Port,
    pub(crate) writer: Port,
    way: Way,
    hello: Hello,
}

/// The way to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A virtio port: it is the same for all lives.
    Port,
    /// A connection over a vsock, which a save breaks, in the guest that goes on as in its copies.
    Vsock,
}

impl Link {
    /// Opens the port, or dials.
    pub(crate) fn open() -> Result<Self> {
        let (reader, way) = match boot::link_port() {
            Some(path) => (Port::open(&path).with_context(|| format!("open {}", path.display()))?, Way::Port),
            None => {
                boot::load_vsock()?;
                (dial()?, Way::Vsock)
            }
        };
        let hello = Hello {
            protocol: PROTOCOL,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
            generation: 0,
        };
        Ok(Self { writer: reader.clone(), reader, way, hello })
    }

    /// Greets and hears what this guest is.
    pub(crate) async fn greet(&mut self, positions: &[StreamPosition]) -> Result<Verdict> {
        let greeted = greeting::guest_greeting(&mut self.reader, &mut self.writer, &self.hello, positions).await;
        self.hello.generation += 1;
        greeted.context("greet the host")
    }

    /// Waits, once parked, until the host wakes this guest; by a broken connection, if need be.
    pub(crate) async fn knocked(&mut self) -> Result<()> {
        let Way::Vsock = self.way else {
            return greeting::knocked(&mut self.reader).await.context("wait for the host");
        };
        let knocked = tokio::select! {
            knocked = greeting::knocked(&mut self.reader) => knocked.is_ok(),
            () = self.writer.broken() => false,
        };
        if !knocked {
            self.reader = dial()?;
            self.writer = self.reader.clone();
        }
        Ok(())
    }

    /// Reports how waking up went.
    pub(crate) async fn report(&mut self, report: &RestoreReport) -> Result<()> {
        greeting::report(&mut self.writer, report).await.context("report to the host")
    }
}

/// Dials the host. The monitor answers at once, so that this blocks does not matter.
fn dial() -> Result<Port> {
    let dial = || {
        let stream = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, VSOCK_PORT)?;
        stream.set_nonblocking(true)?;
        Port::of(stream.as_fd().try_clone_to_owned()?.into())
    };
    dial().context("dial the host")
}
