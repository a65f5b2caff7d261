//! gVisor with its ptrace platform on a bare bundle: the only peer here with a kernel of its own and no KVM.

use super::{Peer, which};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// gVisor with a running container named `bench`.
pub(super) struct Runsc {
    dir: PathBuf,
}

impl Runsc {
    /// Starts the container; none where runsc is absent.
    pub(super) fn start(dir: &Path) -> Result<Option<Self>> {
        let Some(busybox) = which("runsc").and_then(|_| which("busybox")) else {
            eprintln!("runsc is absent: left out");
            return Ok(None);
        };
        let runsc = Self { dir: dir.join("runsc") };
        for (bundle, args) in [("true", r#"["/bin/true"]"#), ("sleep", r#"["/bin/sleep","100000"]"#)] {
            let bin = runsc.dir.join(bundle).join("rootfs/bin");
            std::fs::create_dir_all(&bin)?;
            for name in ["busybox", "true", "sleep"] {
                std::fs::copy(&busybox, bin.join(name))?;
            }
            let config = format!(
                r#"{{"ociVersion":"1.0.0","process":{{"user":{{"uid":0,"gid":0}},"args":{args},"env":["PATH=/bin"],"cwd":"/"}},
                "root":{{"path":"rootfs","readonly":true}},"mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],
                "linux":{{"namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"network"}}]}}}}"#
            );
            std::fs::write(runsc.dir.join(bundle).join("config.json"), config)?;
        }
        runsc.start_container("bench").context("runsc does not run here")?;
        Ok(Some(runsc))
    }

    fn start_container(&self, name: &str) -> Result<()> {
        let mut run = self.runsc();
        run.args(["run", "-detach", "-bundle"]).arg(self.dir.join("sleep")).arg(name);
        super::quietly(run).map(drop)
    }

    /// Saves a container, which ends with that: this gVisor's `-leave-running` waits for its end. Returns where, and how
    /// long that took.
    pub(super) fn checkpoint(&self) -> Result<(PathBuf, Duration)> {
        let name = format!("source-{}", unique());
        let image = self.dir.join(&name);
        std::fs::create_dir_all(&image)?;
        self.start_container(&name)?;
        let mut command = self.runsc();
        command.args(["checkpoint", "-image-path"]).arg(&image).arg(&name);
        let taken = super::quietly(command)?;
        let mut delete = self.runsc();
        delete.args(["delete", "-force", &name]);
        super::quietly(delete)?;
        Ok((image, taken))
    }

    /// The commands that start a container from there, run `true` in it, and remove it.
    pub(super) fn restore(&self, image: &Path, name: &str) -> [Command; 3] {
        let (mut restore, mut exec, mut delete) = (self.runsc(), self.runsc(), self.runsc());
        restore.args(["restore", "-detach", "-image-path"]).arg(image);
        restore.arg("-bundle").arg(self.dir.join("sleep")).arg(name).stdout(Stdio::null()).stderr(Stdio::null());
        exec.args(["exec", name, "/bin/true"]);
        delete.args(["delete", "-force", name]);
        [restore, exec, delete]
    }

    fn runsc(&self) -> Command {
        let mut command = Command::new("runsc");
        command.args(["--platform=ptrace", "--network=none", "--ignore-cgroups=true", "--overlay=true"]);
        command.arg("--root").arg(self.dir.join("state"));
        command
    }
}

impl Peer for Runsc {
    fn name(&self) -> &'static str {
        "gVisor (ptrace)"
    }

    fn run_true(&self) -> Command {
        let mut command = self.runsc();
        command.args(["run", "-bundle"]).arg(self.dir.join("true")).arg(format!("true-{}", unique()));
        command
    }

    fn exec(&self, command: &[&str]) -> Command {
        let mut exec = self.runsc();
        exec.args(["exec", "bench"]).args(command.iter().map(|word| format!("/bin/{word}")));
        exec
    }
}

impl Drop for Runsc {
    fn drop(&mut self) {
        let _ = self.runsc().args(["delete", "-force", "bench"]).output();
    }
}

fn unique() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.context("the clock is before 1970").map_or(0, |now| now.as_nanos())
}
