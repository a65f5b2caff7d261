//! What starting from a snapshot costs, with a guest of 512 MiB that runs a shell.
//!
//! Clock points. *Pause*: from before the monitor is told to stop until it has answered that the machine goes on, as the
//! owner measures it; gVisor's is its whole checkpoint, which ends the container. *Restore*: from the start of
//! the monitor's jail until the guest's report was checked, as the owner measures it. *Announced*: from just before
//! `snapshot run -d` is spawned until it was reaped. *Another answers*: from just before the command that starts one in the
//! background is spawned until `exec true` in it was reaped; podman has nothing to start from but the image. *Cold*: the
//! same after the kernel was told to drop its page cache. *N answer*: from just before the first of them is started until
//! the last of N `exec true`, all spawned at once after the starts, was reaped; those that failed are counted.
//! *The emulator alone*: see [`super::floor`].

use super::fcvm::memory_of;
use super::podman::Podman;
use super::runsc::Runsc;
use super::{HEAD, Samples, floor, millis, quietly, row, timed};
use anyhow::{Context, Result};
use fcvm_e2e::{BUSYBOX, Host};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Clones at one time.
const MANY: usize = 16;

/// Who starts copies of something that runs.
enum Copier<'a> {
    Fcvm(&'a Host),
    Runsc(&'a Runsc, PathBuf),
    Podman(&'a Podman),
}

impl Copier<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Fcvm(_) => "fcvm",
            Self::Runsc(..) => "gVisor (ptrace)",
            Self::Podman(_) => "podman + runc",
        }
    }

    /// The commands that start a copy in the background, run `true` in it, and remove it.
    fn commands(&self, name: &str) -> [Command; 3] {
        match self {
            Self::Fcvm(host) => [
                host.command(["snapshot", "run", "warm", "-d", "-q", "--name", name]),
                host.command(["exec", name, "true"]),
                host.command(["rm", "-f", "-t", "0", name]),
            ],
            Self::Runsc(runsc, image) => runsc.restore(image, name),
            Self::Podman(podman) => podman.another(name),
        }
    }
}

pub(super) fn measure(runs: usize) -> Result<String> {
    let host = Host::new();
    host.start("source", &["--memory=512m", BUSYBOX, "sh", "-c", "while :; do sleep 1; done"]);
    let dir = tempfile::tempdir()?;
    let (runsc, podman) = (Runsc::start(dir.path())?, Podman::start(dir.path())?);
    let mut table = HEAD.to_owned();
    row(&mut table, "pause of a VM that booted, ms", "fcvm", &pauses(&host, runs, "source")?);
    let warm = host.fcvm(["snapshot", "create", "--tag", "warm", "source"]).ok().text();
    host.fcvm(["snapshot", "run", "warm", "-d", "-q", "--name", "clone"]).ok();
    row(&mut table, "pause of a VM that was restored, ms", "fcvm", &pauses(&host, runs, "clone")?);
    host.fcvm(["rm", "-f", "-t", "0", "clone"]).ok();
    let mut copiers = vec![Copier::Fcvm(&host)];
    if let Some(runsc) = &runsc {
        let (image, checkpoints) = checkpoints(runsc, runs)?;
        row(&mut table, "checkpoint, ms", "gVisor (ptrace)", &checkpoints);
        copiers.push(Copier::Runsc(runsc, image));
    }
    copiers.extend(podman.as_ref().map(Copier::Podman));
    let (announced, restores) = restores(&host, runs)?;
    row(&mut table, "`snapshot run -d` announced, ms", "fcvm", &announced);
    row(&mut table, "of it restore, ms", "fcvm", &restores);
    another(&mut table, "another answers, ms", &copiers, runs, || Ok(()))?;
    if let Some(floor) = floor::measure(&host, &warm, runs)? {
        row(&mut table, "the guest greets, ms", "the emulator alone", &floor.greeted);
        row(&mut table, "another answers, ms", "the emulator alone", &floor.answered);
    }
    if drop_page_cache().is_ok() {
        another(&mut table, "another answers, cold, ms", &copiers, runs, drop_page_cache)?;
        timed(host.command(["snapshot", "tune", "warm"]))?;
        another(&mut table, "another answers, cold, tuned, ms", &copiers[..1], runs, drop_page_cache)?;
    } else {
        eprintln!("the page cache cannot be dropped here: cold starts are left out");
    }
    let exec = ["snapshot", "run", "warm", "-q", "--exec", "true"];
    row(&mut table, "`snapshot run --exec true`, removal included, ms", "fcvm", &millis(runs, || host.command(exec))?);
    for copier in &copiers {
        let (samples, failed) = many(copier, runs.min(5))?;
        row(&mut table, &format!("{MANY} answer ({failed} failed), ms"), copier.name(), &samples);
    }
    row(&mut table, "idle clone's proportional memory, 10 of them, MiB", "fcvm", &memory(&host, None)?);
    row(&mut table, "busy clone's proportional memory, 10 of them, MiB", "fcvm", &memory(&host, Some(BUSY))?);
    row(&mut table, "`fork -n 10`, ms", "fcvm", &forks(&host, runs.min(5))?);
    Ok(table)
}

/// What a busy clone has done: 20,000 rounds of a shell, and 16 MiB written.
const BUSY: &str =
    "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/var/x bs=1M count=16 2>/dev/null";

fn checkpoints(runsc: &Runsc, runs: usize) -> Result<(PathBuf, Samples)> {
    let mut samples = Samples::default();
    let mut image = PathBuf::new();
    for _ in 0..runs {
        let taken;
        (image, taken) = runsc.checkpoint()?;
        samples.push(taken.as_secs_f64() * 1e3);
    }
    Ok((image, samples))
}

/// Everyone in turn, so that a drift of the machine meets all alike.
fn another(
    table: &mut String,
    what: &str,
    copiers: &[Copier<'_>],
    runs: usize,
    before: impl Fn() -> Result<()>,
) -> Result<()> {
    let mut samples: Vec<Samples> = copiers.iter().map(|_| Samples::default()).collect();
    for round in 0..=runs {
        for (copier, samples) in copiers.iter().zip(&mut samples) {
            let [start, exec, remove] = copier.commands("another");
            before()?;
            let taken = quietly(start).and_then(|start| Ok(start + timed(exec)?));
            let taken = taken.with_context(|| format!("{what} of {}", copier.name()))?;
            timed(remove)?;
            // The first round warms caches.
            if round > 0 {
                samples.push(taken.as_secs_f64() * 1e3);
            }
        }
    }
    for (copier, samples) in copiers.iter().zip(&samples) {
        row(table, what, copier.name(), samples);
    }
    Ok(())
}

fn drop_page_cache() -> Result<()> {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("drop the page cache")
}

fn json(host: &Host, args: &[&str]) -> Result<Value> {
    serde_json::from_str(&host.fcvm(args).ok().text()).with_context(|| format!("read the answer to {args:?}"))
}

fn pauses(host: &Host, runs: usize, vm: &str) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..runs {
        let captured = json(host, &["snapshot", "create", "--json", vm])?;
        samples.push(captured["pause_us"].as_f64().context("no pause")? / 1e3);
        host.fcvm(["snapshot", "rm", captured["id"].as_str().context("no id")?]).ok();
    }
    Ok(samples)
}

fn restores(host: &Host, runs: usize) -> Result<(Samples, Samples)> {
    let (mut announced, mut restored) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        let started = Instant::now();
        let clone = json(host, &["snapshot", "run", "warm", "-d", "--json"])?;
        announced.push(started.elapsed().as_secs_f64() * 1e3);
        let receipt = &clone["restored"]["receipt"];
        restored.push(receipt["restore_us"].as_f64().context("no receipt")? / 1e3);
        host.fcvm(["rm", "-f", "-t", "0", clone["id"].as_str().context("no id")?]).ok();
    }
    Ok((announced, restored))
}

/// Returns the times, and how many did not start or answer in all rounds.
fn many(copier: &Copier<'_>, runs: usize) -> Result<(Samples, usize)> {
    let (mut samples, mut failed) = (Samples::default(), 0);
    let names: Vec<String> = (1..=MANY).map(|number| format!("m-{number}")).collect();
    for _ in 0..runs {
        let started = Instant::now();
        let spawn =
            |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let all = |index: usize| -> Result<usize> {
            let one = |name: &String| spawn(&mut copier.commands(name)[index]);
            let children: Vec<Child> = names.iter().map(one).collect::<Result<_, _>>()?;
            let ended = children.into_iter().map(|mut child| Ok(child.wait()?.success()));
            Ok(ended.collect::<Result<Vec<bool>>>()?.iter().filter(|success| !**success).count())
        };
        let not_started = all(0)?;
        failed += all(1)?.max(not_started);
        samples.push(started.elapsed().as_secs_f64() * 1e3);
        all(2)?;
    }
    Ok((samples, failed))
}

fn memory(host: &Host, busy: Option<&str>) -> Result<Samples> {
    let mut samples = Samples::default();
    let names: Vec<String> = (1..=10).map(|number| format!("i-{number}")).collect();
    timed(host.command(["snapshot", "run", "warm", "-d", "-q", "--name", "i", "-n", "10"]))?;
    for name in &names {
        if let Some(line) = busy {
            timed(host.command(["exec", name, "sh", "-c", line]))?;
        }
    }
    for name in &names {
        let owner = host.fcvm(["inspect", "--format", "{{.Vm.OwnerPid}}", name]).ok().text();
        samples.push(memory_of(owner.parse().context("no owner")?)?);
    }
    remove(host, &names);
    Ok(samples)
}

fn forks(host: &Host, runs: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    let names: Vec<String> = (1..=10).map(|number| format!("f-{number}")).collect();
    for _ in 0..runs {
        let taken = timed(host.command(["fork", "source", "-q", "--name", "f", "-n", "10"]))?;
        samples.push(taken.as_secs_f64() * 1e3);
        remove(host, &names);
    }
    Ok(samples)
}

fn remove(host: &Host, names: &[String]) {
    host.fcvm(["rm", "-f", "-t", "0"].iter().map(|word| (*word).to_owned()).chain(names.iter().cloned())).ok();
}
