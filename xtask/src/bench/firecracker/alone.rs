//! Firecracker with nothing of ours: its process, its socket, its calls.

use anyhow::{Context, Result, bail};
use fcvm_vmm::Saved;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Whether Firecracker keeps which pages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracking {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// A machine; it ends with this.
pub(super) struct Alone {
    child: Child,
    socket: UnixStream,
    dir: tempfile::TempDir,
}

impl Alone {
    /// Starts a machine from a saved one; it runs from then on.
    pub(super) fn restore(program: &Path, saved: &Saved, tracking: Tracking) -> Result<Self> {
        // In memory, as the workspace of a jail.
        let dir = tempfile::tempdir_in("/dev/shm")?;
        let (api, link) = (dir.path().join("api"), dir.path().join("link"));
        let mut command = Command::new(program);
        command.arg("--api-sock").arg(&api).args(["--level", "Off"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let socket = loop {
            match UnixStream::connect(&api) {
                Ok(socket) => break socket,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut alone = Self { child, socket, dir };
        alone.call(
            "PUT /snapshot/load",
            &json!({
                "snapshot_path": saved.devices,
                "mem_backend": { "backend_type": "File", "backend_path": saved.memory },
                "track_dirty_pages": tracking == Tracking::On,
                "vsock_override": { "uds_path": link },
                "resume_vm": false,
            }),
        )?;
        alone.call("PATCH /vm", &json!({ "state": "Resumed" }))?;
        Ok(alone)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Saves it by what was written since it was loaded; returns the milliseconds from before it stops until it goes on.
    pub(super) fn save_difference(&mut self) -> Result<f64> {
        let (devices, memory) = (self.file("devices"), self.file("memory"));
        let started = Instant::now();
        self.call("PATCH /vm", &json!({ "state": "Paused" }))?;
        let what = json!({ "snapshot_path": devices, "mem_file_path": memory, "snapshot_type": "Diff" });
        self.call("PUT /snapshot/create", &what)?;
        self.call("PATCH /vm", &json!({ "state": "Resumed" }))?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn call(&mut self, what: &str, body: &Value) -> Result<()> {
        let body = body.to_string();
        let request = format!("{what} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.socket.write_all(request.as_bytes())?;
        let mut answer = vec![0; 4096];
        let count = self.socket.read(&mut answer).context("Firecracker closed its socket")?;
        let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
        if !answer.starts_with("HTTP/1.1 204") {
            bail!("{what}: {answer}");
        }
        Ok(())
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
