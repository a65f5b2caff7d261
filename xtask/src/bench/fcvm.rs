//! Ours: one VM in the background for the figures of a running one.

use super::{BULK, Peer, Samples};
use anyhow::{Context, Result, bail};
use fcvm_e2e::{BUSYBOX, Host, free_port};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Our peer: a host with a running VM named `bench`.
pub(super) struct Fcvm {
    host: Host,
    port: u16,
}

impl Fcvm {
    pub(super) fn start(_dir: &Path) -> Result<Self> {
        let host = Host::new();
        let port = free_port();
        let publish = format!("{port}:9");
        // One that listens all the time: between two that listen once a connection would be refused.
        let server = "exec nc -ll -p 9 -e dd if=/dev/zero bs=1M count=256 2>/dev/null";
        let flags = ["--network=rootless:allow_host_loopback=true", "-p", &publish, BUSYBOX, "sh", "-c", server];
        host.start("bench", &flags);
        Ok(Self { host, port })
    }

    pub(super) fn version(&self) -> Command {
        self.host.command(["--version"])
    }

    pub(super) fn owner_memory(&self) -> Result<Samples> {
        let mut samples = Samples::default();
        samples.push(status_kib(self.owner()?, "VmRSS:")? / 1024.0);
        Ok(samples)
    }

    /// The owner, the jail and the monitor, shared pages by their share.
    pub(super) fn vm_memory(&self) -> Result<Samples> {
        let mut samples = Samples::default();
        samples.push(memory_of(self.owner()?)?);
        Ok(samples)
    }

    pub(super) fn stdout(&self) -> Result<Duration> {
        let mut child = self.exec(&["dd", "if=/dev/zero", "bs=1M", "count=256"]);
        let started = Instant::now();
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        drain(child.stdout.take().context("stdout is piped")?)?;
        child.wait()?;
        Ok(started.elapsed())
    }

    pub(super) fn stdin(&self) -> Result<Duration> {
        let started = Instant::now();
        let mut child = self.host.command(["exec", "-i", "bench", "sh", "-c", "cat > /dev/null"]);
        let mut child = child.stdin(Stdio::piped()).spawn()?;
        let mut pipe = child.stdin.take().context("stdin is piped")?;
        let piece = vec![0; 1 << 20];
        for _ in 0..BULK / piece.len() {
            pipe.write_all(&piece)?;
        }
        drop(pipe);
        child.wait()?;
        Ok(started.elapsed())
    }

    pub(super) fn port(&self) -> Result<Duration> {
        let started = Instant::now();
        drain(TcpStream::connect(("127.0.0.1", self.port))?)?;
        Ok(started.elapsed())
    }

    pub(super) fn outbound(&self) -> Result<Duration> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        // Its program writes to the connection itself: nc carries 2 KiB at a time.
        let port = listener.local_addr()?.port();
        let script = format!("exec nc 10.0.2.2 {port} -e dd if=/dev/zero bs=1M count=256 2>/dev/null");
        let started = Instant::now();
        let mut child = self.exec(&["sh", "-c", &script]).stdin(Stdio::null()).spawn()?;
        drain(listener.accept()?.0)?;
        child.wait()?;
        Ok(started.elapsed())
    }

    fn owner(&self) -> Result<u32> {
        let output = self.host.fcvm(["inspect", "--format", "{{.Vm.OwnerPid}}", "bench"]);
        output.text().parse().with_context(|| format!("no owner's pid in {output:?}"))
    }
}

impl Peer for Fcvm {
    fn name(&self) -> &'static str {
        "fcvm"
    }

    fn run_true(&self) -> Command {
        self.host.command(["run", "--rm", "--no-snapshot", BUSYBOX, "true"])
    }

    fn run_true_again(&self) -> Option<Command> {
        Some(self.host.command(["run", "--rm", BUSYBOX, "true"]))
    }

    fn exec(&self, command: &[&str]) -> Command {
        self.host.command(["exec", "bench"].iter().chain(command))
    }
}

fn drain(mut reader: impl Read) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 if total < BULK => bail!("{total} of {BULK} bytes arrived"),
            0 => return Ok(()),
            length => total += length,
        }
    }
}

/// Proportional memory of a process and all below it, in MiB.
pub(super) fn memory_of(owner: u32) -> Result<f64> {
    let mut kib = 0.0;
    for pid in family(owner) {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        kib += field(&text, "Pss:").with_context(|| format!("no Pss in {path}"))?;
    }
    Ok(kib / 1024.0)
}

/// A process and all below it.
fn family(root: u32) -> Vec<u32> {
    let mut family = vec![root];
    let mut next = 0;
    while let Some(pid) = family.get(next).copied() {
        next += 1;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    family
}

fn status_kib(pid: u32, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&text, name).with_context(|| format!("no {name} of process {pid}"))
}

fn field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
