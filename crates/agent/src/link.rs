//! The agent's end of the link: the port, and the greeting that begins each use of it.

use crate::boot;
use anyhow::{Context, Result};
use fcvm_link::greeting;
use fcvm_proto::message::{Hello, PROTOCOL, StreamPosition, Verdict};
use fcvm_proto::restore::RestoreReport;
use fcvm_sys::guest::Port;

/// The port and who greets over it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) reader: Port,
    pub(crate) writer: Port,
    hello: Hello,
}

impl Link {
    /// Opens the port.
    pub(crate) fn open() -> Result<Self> {
        let path = boot::link_port()?;
        let reader = Port::open(&path).with_context(|| format!("open {}", path.display()))?;
        let hello = Hello {
            protocol: PROTOCOL,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
            generation: 0,
        };
        Ok(Self { writer: reader.clone(), reader, hello })
    }

    /// Greets and hears what this guest is.
    pub(crate) async fn greet(&mut self, positions: &[StreamPosition]) -> Result<Verdict> {
        let greeted = greeting::guest_greeting(&mut self.reader, &mut self.writer, &self.hello, positions).await;
        self.hello.generation += 1;
        greeted.context("greet the host")
    }

    /// Waits, once parked, until the host wakes this guest.
    pub(crate) async fn knocked(&mut self) -> Result<()> {
        greeting::knocked(&mut self.reader).await.context("wait for the host")
    }

    /// Reports how waking up went.
    pub(crate) async fn report(&mut self, report: &RestoreReport) -> Result<()> {
        greeting::report(&mut self.writer, report).await.context("report to the host")
    }
}
