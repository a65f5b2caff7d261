//! The guest's cgroups: the agent in one of its own, controllers for the container's.

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// The container's, as its configuration names it; under Podman that in which Podman makes the container's.
pub(crate) const CONTAINER: &str = "/sys/fs/cgroup/container";

/// Moves the agent out of the root and enables every controller below it.
pub(crate) fn prepare() -> Result<()> {
    let own = Path::new(ROOT).join("agent");
    fs::create_dir_all(&own).context("make the agent's cgroup")?;
    fs::write(own.join("cgroup.procs"), "1").context("enter the agent's cgroup")?;
    let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).context("list controllers")?;
    let enabled: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(Path::new(ROOT).join("cgroup.subtree_control"), enabled.join(" ")).context("enable controllers")
}

/// Changes what the processes of a cgroup may use.
pub(crate) fn limit(dir: &Path, memory: Option<u64>, cpu_milli: Option<u32>) -> Result<()> {
    const PERIOD_US: u64 = 100_000;
    if let Some(bytes) = memory {
        fs::write(dir.join("memory.max"), bytes.to_string()).context("limit the container's memory")?;
    }
    if let Some(milli) = cpu_milli {
        let quota = u64::from(milli) * PERIOD_US / 1000;
        fs::write(dir.join("cpu.max"), format!("{quota} {PERIOD_US}")).context("limit the container's processors")?;
    }
    Ok(())
}

/// How long processes may take to stand still: one that waits for a disk does so first.
const STILL_WITHIN: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// A cgroup whose processes stand still until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen(PathBuf);

impl Frozen {
    /// Blocks until all of them do.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        fs::write(dir.join("cgroup.freeze"), "1").context("freeze the container")?;
        let frozen = Self(dir);
        let mut events = File::open(frozen.0.join("cgroup.events")).context("look at the container's cgroup")?;
        loop {
            let mut text = String::new();
            events.rewind()?;
            events.read_to_string(&mut text)?;
            if text.lines().any(|line| line == "frozen 1") {
                return Ok(frozen);
            }
            let mut awaited = [PollFd::new(&events, PollFlags::PRI)];
            let changed = rustix::io::retry_on_intr(|| poll(&mut awaited, Some(&STILL_WITHIN)))?;
            ensure!(changed > 0, "the container's processes do not stand still");
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // A container that has ended meanwhile has no cgroup any more.
        let _thawed = fs::write(self.0.join("cgroup.freeze"), "0");
    }
}

/// The cgroup of a process, as a directory.
pub(crate) fn of(pid: i32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(ROOT).join(path))
}

/// The processes of a cgroup.
pub(crate) fn processes(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The processes of a cgroup and of all below it, which the container may have made.
pub(crate) fn processes_below(dir: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        found.extend(processes(&dir));
        let below = fs::read_dir(&dir).into_iter().flatten().flatten();
        pending
            .extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
    }
    found.sort_unstable();
    found
}

/// Whether the kernel has killed a process of a cgroup, or of one below it, for want of memory.
pub(crate) fn ran_out_of_memory(dir: &Path) -> bool {
    fs::read_to_string(dir.join("memory.events")).is_ok_and(|text| counts_a_kill(&text))
}

fn counts_a_kill(events: &str) -> bool {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_from_pressure() {
        assert!(counts_a_kill("low 0\nmax 21\noom 1\noom_kill 1\noom_group_kill 0\n"));
        assert!(!counts_a_kill("low 0\nmax 21\noom 3\noom_kill 0\noom_group_kill 7\n"));
        assert!(!counts_a_kill(""));
    }
}
