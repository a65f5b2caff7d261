//! The host's podman with runc, in directories of its own, with what it needs to run inside other sandboxes.

use crate::BUSYBOX;
use crate::fixture::busybox_archive;
use crate::program::{Finished, Started};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Podman with the busybox image. What it ran is gone when this is dropped.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
}

/// No network, seccomp or raised limits: what its sandboxes here allow, and to its advantage.
pub const FLAGS: [&str; 6] = [
    "--network=none",
    "--security-opt=seccomp=unconfined",
    "--ulimit=nofile=1024:20000",
    "--ulimit=nproc=4096:4096",
    "--log-driver=k8s-file",
    "--pull=never",
];

impl Podman {
    /// Finds podman; the reason if it is not there or runs nothing here.
    pub fn find() -> Result<Self, String> {
        let dir = tempfile::Builder::new().prefix("fcvm-podman-").tempdir().map_err(|error| error.to_string())?;
        let podman = Self { dir };
        let archive = busybox_archive(podman.dir.path());
        podman.try_to(&["load", "-q", "-i", &archive.to_string_lossy()])?;
        let trial: Vec<&str> = ["run", "--rm"].into_iter().chain(FLAGS).chain([BUSYBOX, "true"]).collect();
        podman.try_to(&trial)?;
        Ok(podman)
    }

    fn try_to(&self, args: &[&str]) -> Result<(), String> {
        let output = self.command(args).output().map_err(|error| format!("podman does not start: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("podman {} fails here: {said}", args[0])) }
    }

    /// A directory of its own.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The command line of `podman`; to `run` belong [`FLAGS`].
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = Command::new("podman");
        let place = |name: &str| self.dir.path().join(name);
        command.arg("--root").arg(place("root")).arg("--runroot").arg(place("run")).arg("--tmpdir").arg(place("tmp"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc"]);
        command.args(["--events-backend", "file"]).args(args);
        command
    }

    /// Runs `podman` to its end with this on stdin.
    pub fn podman<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I, stdin: Vec<u8>) -> Finished {
        Started::new(self.command(args), stdin).finish()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _what_is_left_goes_with_the_directory = self.command(["rm", "-a", "-f", "-t", "0"]).output();
    }
}
