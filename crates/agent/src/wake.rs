//! Waking up as another machine: clock, random pool, identity, network, in this order, before anyone sees the guest.

use crate::network::WayOut;
use crate::serve::Guest;
use crate::world::{Identity, hex};
use anyhow::{Context, Result};
use fcvm_link::Session;
use fcvm_proto::restore::{Delta, Receipt, RestoreReport};
use std::time::{SystemTime, UNIX_EPOCH};

/// Becomes what the delta says. A step that fails ends the restore by its name.
pub(crate) async fn wake(delta: &Delta, guest: &Guest, way_out: Option<&WayOut>, session: &Session) -> RestoreReport {
    let mut receipt = Receipt { epoch: delta.epoch.clone(), ..Receipt::default() };
    if let Err((step, error)) = steps(delta, guest, &mut receipt) {
        return RestoreReport::Failed { step: step.to_owned(), reason: format!("{error:#}") };
    }
    if let Some(way_out) = way_out {
        receipt.connections = way_out.renew(session.clone()).await;
    }
    RestoreReport::Restored(receipt)
}

fn steps(delta: &Delta, guest: &Guest, receipt: &mut Receipt) -> Result<(), (&'static str, anyhow::Error)> {
    let at = |step| move |error: anyhow::Error| (step, error);
    receipt.clock_before_ns = now_ns().saturating_sub(delta.time_ns);
    fcvm_sys::guest::set_clock(delta.time_ns).map_err(anyhow::Error::from).map_err(at("clock"))?;
    receipt.random = reseed(&delta.entropy).map_err(at("random pool"))?;
    let Delta { hostname, machine_id, hosts, resolv_conf, .. } = delta;
    Identity { hostname, machine_id, hosts, resolv_conf }.assume().map_err(at("identity"))?;
    guest.wake(delta).map_err(at("container"))?;
    receipt.container = guest.container_pid();
    (receipt.hostname, receipt.machine_id) = identity().map_err(at("identity"))?;
    Ok(())
}

/// Puts the host's bytes into the pool and returns the first that come out of it.
fn reseed(entropy: &str) -> Result<String> {
    fcvm_sys::guest::add_entropy(&hex(entropy)).context("credit the host's random bytes")?;
    let mut first = [0; 16];
    let filled = rustix::rand::getrandom(&mut first, rustix::rand::GetRandomFlags::empty()).context("read the pool")?;
    Ok(first[..filled].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What kernel and file say, not what was told.
fn identity() -> Result<(String, String)> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let path = std::path::Path::new(crate::world::DIR).join("machine-id");
    let machine_id = std::fs::read_to_string(path).context("read the machine id")?;
    Ok((hostname, machine_id.trim_end().to_owned()))
}

pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
