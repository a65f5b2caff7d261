//! Podman with runc, in directories of its own, with what it needs to run inside other sandboxes.

use super::{Peer, which};
use anyhow::{Context, Result};
use fcvm_e2e::BUSYBOX;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Podman with a running container named `bench`.
pub(super) struct Podman {
    dir: PathBuf,
}

impl Podman {
    /// Starts the container; none where podman or runc is absent.
    pub(super) fn start(dir: &Path) -> Result<Option<Self>> {
        if which("podman").is_none() || which("runc").is_none() {
            eprintln!("podman or runc is absent: left out");
            return Ok(None);
        }
        let podman = Self { dir: dir.join("podman") };
        std::fs::create_dir_all(&podman.dir)?;
        let archive = fcvm_e2e::busybox_archive(&podman.dir);
        let mut load = podman.podman();
        super::timed({
            load.args(["load", "-q", "-i"]).arg(archive);
            load
        })?;
        let mut run = podman.podman();
        run.args(["run", "-d", "--name", "bench"]).args(FLAGS).args([BUSYBOX, "sleep", "100000"]);
        super::timed(run).context("start podman's container")?;
        Ok(Some(podman))
    }

    /// The commands that start another container, run `true` in it, and remove it.
    pub(super) fn another(&self, name: &str) -> [Command; 3] {
        let (mut run, mut exec, mut remove) = (self.podman(), self.podman(), self.podman());
        run.args(["run", "-d", "--name", name]).args(FLAGS).args([BUSYBOX, "sleep", "100000"]);
        exec.args(["exec", name, "true"]);
        remove.args(["rm", "-f", "-t", "0", name]);
        [run, exec, remove]
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        let place = |name: &str| self.dir.join(name);
        command.arg("--root").arg(place("root")).arg("--runroot").arg(place("run")).arg("--tmpdir").arg(place("tmp"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.args(["--events-backend", "file"]);
        command
    }
}

/// No network, seccomp or raised limits: what its sandboxes here allow, and to its advantage.
const FLAGS: [&str; 6] = [
    "--network=none",
    "--security-opt=seccomp=unconfined",
    "--ulimit=nofile=1024:20000",
    "--ulimit=nproc=4096:4096",
    "--log-driver=k8s-file",
    "--pull=never",
];

impl Peer for Podman {
    fn name(&self) -> &'static str {
        "podman + runc"
    }

    fn run_true(&self) -> Command {
        let mut command = self.podman();
        command.args(["run", "--rm"]).args(FLAGS).args([BUSYBOX, "true"]);
        command
    }

    fn exec(&self, command: &[&str]) -> Command {
        let mut exec = self.podman();
        exec.args(["exec", "bench"]).args(command);
        exec
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.podman().args(["rm", "-f", "-t", "0", "bench"]).output();
    }
}
