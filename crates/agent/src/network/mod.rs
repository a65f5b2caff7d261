//! The guest's way out: a TUN interface whose connections and datagrams travel over the link and start on the host.
//!
//! ```text
//! program ─► kernel's TCP ─► tap0 ─► [tcp]: smoltcp, one socket a connection ─► stream `Connect` ─► host
//! program ─► kernel's UDP ─► tap0 ─► [datagram]: one flow for each pair of places ─► stream `Connect` ─► host
//! ping ─► echo requests ─► tap0 ─► [datagram]: one flow for each identifier ─► stream `Echo` ─► host
//! ```
//!
//! A connection is answered only when the host has made it: a refused one is refused, an unreachable one unreachable.
//! Which places may be reached is the host's to say.

mod datagram;
mod device;
mod packet;
mod tcp;

use anyhow::{Context, Result};
use device::{Device, MTU};
use fcvm_link::Session;
use fcvm_proto::plan::Network;
use packet::Kind;
use std::fs::File;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, oneshot};

const INTERFACE: &str = "tap0";
/// Packets that are read before connections are served.
const BATCH: usize = 64;

/// The interface, made but not served yet.
#[derive(Debug)]
pub(crate) struct Interface {
    tun: File,
}

/// Makes the interface that a plan asks for.
pub(crate) fn set_up(network: &Network) -> Result<Option<Interface>> {
    fcvm_sys::guest::bring_up("lo", None, None).context("bring up loopback")?;
    let Network::Link { address, prefix, gateway, .. } = network else { return Ok(None) };
    // The system disk is read-only and has no node for it; the kernel's own device file system has.
    let tun = fcvm_sys::guest::open_tun(INTERFACE).context("make the way out")?;
    fcvm_sys::guest::bring_up(INTERFACE, Some((*address, *prefix)), Some(MTU)).context("bring up the way out")?;
    fcvm_sys::guest::route_default(INTERFACE, *gateway).context("lead the way out")?;
    // `ping` of whoever runs in here needs no capability.
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("let everybody ping")?;
    Ok(Some(Interface { tun: tun.into() }))
}

/// The served interface.
#[derive(Debug)]
pub(crate) struct WayOut {
    lives: mpsc::Sender<NewLife>,
}

/// From now on connections travel over another session; those of the old life are reset.
struct NewLife {
    session: Session,
    /// Hears how many connections there were.
    reset: oneshot::Sender<u32>,
}

impl WayOut {
    /// Resets every connection and makes new ones over this session. Returns how many there were.
    pub(crate) async fn renew(&self, session: Session) -> u32 {
        let (reset, heard) = oneshot::channel();
        let _ = self.lives.send(NewLife { session, reset }).await;
        heard.await.unwrap_or(0)
    }
}

impl Interface {
    /// Serves the interface for as long as the guest lives.
    pub(crate) fn serve(self, session: Session) -> WayOut {
        let (lives, new_lives) = mpsc::channel(1);
        tokio::task::spawn_local(async move {
            if let Err(error) = self.run(session, new_lives).await {
                eprintln!("fcvm-agent: the network ended: {error:#}");
            }
        });
        WayOut { lives }
    }

    async fn run(self, session: Session, mut new_lives: mpsc::Receiver<NewLife>) -> Result<()> {
        let writer = Rc::new(self.tun.try_clone().context("share the interface")?);
        let reader = pipe::Receiver::from_file_unchecked(self.tun).context("watch the interface")?;
        let moved = Rc::new(Notify::new());
        let mut device = Device::new(writer.clone());
        let mut tcp = tcp::Connections::new(&mut device, session.clone(), moved.clone());
        let mut flows = datagram::Flows::new(session, writer.clone());
        loop {
            for _ in 0..BATCH {
                if device.read(&reader).is_err() {
                    break;
                }
                match packet::kind(device.packet()) {
                    Some(Kind::Tcp(head)) => tcp.take(&mut device, head),
                    Some(Kind::Datagram(datagram)) => flows.take(device.packet(), datagram),
                    None => {}
                }
            }
            let wait = tcp.serve(&mut device);
            tokio::select! {
                ready = reader.readable() => ready.context("watch the interface")?,
                () = moved.notified() => {}
                () = pause(wait) => {}
                Some(NewLife { session, reset }) = new_lives.recv() => {
                    let _ = reset.send(tcp.renew(&mut device, session.clone()));
                    flows = datagram::Flows::new(session, writer.clone());
                }
            }
        }
    }
}

/// Waits until connections want to be served again by themselves.
async fn pause(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep_until((Instant::now() + wait).into()).await,
        None => std::future::pending().await,
    }
}
