//! The guest's cgroups: the agent in one of its own, controllers for the container's.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Moves the agent out of the root and enables every controller below it.
pub(crate) fn prepare() -> Result<()> {
    let own = Path::new(ROOT).join("agent");
    fs::create_dir_all(&own).context("make the agent's cgroup")?;
    fs::write(own.join("cgroup.procs"), "1").context("enter the agent's cgroup")?;
    let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).context("list controllers")?;
    let enabled: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    fs::write(Path::new(ROOT).join("cgroup.subtree_control"), enabled.join(" ")).context("enable controllers")
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
