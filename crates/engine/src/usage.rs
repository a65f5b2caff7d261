//! What a running VM uses, in the guest and on the host, and what runs in it.

use crate::control::{Command, refused};
use crate::ops::connect;
use crate::{Engine, Error};
use fcvm_proto::usage::{Processes, Usage};
use fcvm_store::VmRecord;
use std::fs;

/// The most processes that a guest is heard out about.
const MOST: usize = 1 << 16;
/// What `/proc` counts processor time in, as everywhere on Linux.
const TICK_NS: u64 = 10_000_000;

/// What a VM uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmUsage {
    /// The VM.
    pub record: VmRecord,
    /// What its container uses.
    pub guest: Usage,
    /// What its monitor uses.
    pub host: HostUsage,
}

/// What a VM costs its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostUsage {
    /// Nanoseconds of processors that its monitor has had.
    pub cpu_ns: u64,
    /// Bytes of its monitor's memory: what others use too counts in part (PSS).
    pub memory: u64,
    /// Bytes of the host's disk that its own writes take.
    pub disk: u64,
}

impl Engine {
    /// Measures a running VM.
    pub async fn usage(&self, vm: &str) -> Result<VmUsage, Error> {
        let dir = self.store().find_vm(vm)?;
        let guest = connect(&dir, vm).await?.ask(&Command::Usage).await?;
        let record = dir.record()?;
        let monitor = record.monitor.as_ref().filter(|monitor| monitor.process.is_alive());
        let mut host = monitor.map(|monitor| processes_below(monitor.process.pid)).unwrap_or_default();
        host.disk = dir.disk_bytes()?;
        Ok(VmUsage { record, guest, host })
    }

    /// Lists the processes of a running VM's container.
    pub async fn processes(&self, vm: &str) -> Result<Processes, Error> {
        let client = connect(&self.store().find_vm(vm)?, vm).await?;
        let (sender, mut receiver) = client.open(&Command::Processes)?.split();
        let mut all = Processes::default();
        while let Some(item) = receiver.recv().await.map_err(refused)? {
            let nonsense = |error| Error::Refused(format!("the guest answered nonsense: {error}"));
            let part: Processes = item.message().map_err(nonsense)?;
            all.uptime = part.uptime;
            all.processes.extend(part.processes);
            if all.processes.len() > MOST {
                return Err(Error::Refused(format!("more than {MOST} processes")));
            }
        }
        sender.finish();
        Ok(all)
    }
}

/// What a process and its children use: the monitor is in a jail, whose first process is its parent.
fn processes_below(first: u32) -> HostUsage {
    let mut sum = HostUsage::default();
    let mut pending = vec![first];
    while let Some(pid) = pending.pop() {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        sum.memory += pss(&read("smaps_rollup")).unwrap_or(0);
        sum.cpu_ns += ticks(&read("stat")).unwrap_or(0).saturating_mul(TICK_NS);
        let children = read(&format!("task/{pid}/children"));
        pending.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    sum
}

fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15 of proc(5), behind a name that may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().skip(14 - 3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        assert!(processes_below(std::process::id()).memory > 0);
        assert_eq!(processes_below(u32::MAX), HostUsage::default());
        assert_eq!(ticks("7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 12 30 0 0"), Some(42));
    }
}
