//! `bench run`, `bench clone`, `bench firecracker` and `bench volume`: what a user waits for, measured from outside, ours and
//! the peers' in turn in one run.
//!
//! Clock points: a *command* is measured from just before its process is spawned to just after it was reaped, output
//! included. Throughput is bytes over the same span. The peers are what Debian ships; one that is absent is left out.

mod clone;
mod fcvm;
mod firecracker;
mod floor;
mod podman;
mod runsc;
mod sample;
mod volume;

use anyhow::{Context, Result, bail};
pub(crate) use firecracker::{OWNER, own};
use sample::Samples;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What was asked on the command line.
pub(crate) struct Options {
    runs: Option<usize>,
    out: Option<PathBuf>,
    full: bool,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self { runs: None, out: None, full: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--full" {
                options.full = true;
                continue;
            }
            let value = words.next().with_context(|| format!("{word} needs a value"))?;
            match *word {
                "--runs" => options.runs = Some(value.parse().context("--runs takes a number")?),
                "--out" => options.out = Some(value.into()),
                _ => bail!("unknown option {word}"),
            }
        }
        Ok(options)
    }

    fn runs(&self) -> usize {
        self.runs.unwrap_or(20)
    }
}

/// One way to run containers.
trait Peer {
    /// Its name in the table.
    fn name(&self) -> &'static str;
    /// The command that runs `true` in a new container and removes it.
    fn run_true(&self) -> Command;
    /// The same where something was kept of an earlier run to make it quick, if there is such a thing.
    fn run_true_again(&self) -> Option<Command> {
        None
    }
    /// The command that runs `command` in the running container.
    fn exec(&self, command: &[&str]) -> Command;
}

const HEAD: &str = "| what | who | median | p99 | min | max | n |\n| --- | --- | --- | --- | --- | --- | --- |\n";

/// How many bytes the throughput figures move.
const BULK: usize = 256 << 20;

pub(crate) fn run(options: &Options) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let ours = fcvm::Fcvm::start(dir.path())?;
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    if let Some(podman) = podman::Podman::start(dir.path())? {
        peers.push(Box::new(podman));
    }
    if let Some(runsc) = runsc::Runsc::start(dir.path())? {
        peers.push(Box::new(runsc));
    }
    let mut table = HEAD.to_owned();
    let everyone = || std::iter::once(&ours as &dyn Peer).chain(peers.iter().map(AsRef::as_ref));
    compare(&mut table, "`run --rm IMAGE true`, ms", options.runs(), everyone(), |peer| peer.run_true())?;
    row(&mut table, "`run --rm IMAGE true`, cached, ms", "fcvm", &cached(options.runs(), &ours)?);
    compare(&mut table, "`exec true`, ms", options.runs(), everyone(), |peer| peer.exec(&["true"]))?;
    row(&mut table, "CLI start-up (`fcvm --version`), ms", "fcvm", &millis(options.runs(), || ours.version())?);
    row(&mut table, "owner's resident memory, MiB", "fcvm", &ours.owner_memory()?);
    row(&mut table, "whole VM's proportional memory, MiB", "fcvm", &ours.vm_memory()?);
    let bulk = options.runs().min(5);
    row(&mut table, "`exec` stdout, MB/s", "fcvm", &rate(bulk, || ours.stdout())?);
    row(&mut table, "`exec -i` stdin, MB/s", "fcvm", &rate(bulk, || ours.stdin())?);
    row(&mut table, "published port, guest to host, MB/s", "fcvm", &rate(bulk, || ours.port())?);
    row(&mut table, "outbound TCP, guest to host, MB/s", "fcvm", &rate(bulk, || ours.outbound())?);
    publish(&table, options)
}

/// What starting from a snapshot costs.
pub(crate) fn clone(options: &Options) -> Result<()> {
    publish(&clone::measure(options.runs())?, options)
}

/// What Firecracker, at its native speed, costs with us around it.
pub(crate) fn firecracker(options: &Options) -> Result<()> {
    publish(&firecracker::measure(options.runs())?, options)
}

/// What files cost in a volume: more than a few rounds take too long.
pub(crate) fn volume(options: &Options) -> Result<()> {
    let scale = if options.full { volume::FULL } else { volume::SMALL };
    publish(&volume::measure(options.runs.unwrap_or(3), &scale)?, options)
}

fn publish(table: &str, options: &Options) -> Result<()> {
    print!("{table}");
    if let Some(out) = &options.out {
        std::fs::write(out, table).with_context(|| format!("write {}", out.display()))?;
    }
    Ok(())
}

fn cached(runs: usize, ours: &dyn Peer) -> Result<Samples> {
    millis(runs, || ours.run_true_again().expect("ours keeps something"))
}

/// Measures everyone in turn, A B C A B C, so that a drift of the machine meets all alike.
fn compare<'p>(
    table: &mut String,
    what: &str,
    runs: usize,
    peers: impl Iterator<Item = &'p dyn Peer>,
    command: impl Fn(&dyn Peer) -> Command,
) -> Result<()> {
    let peers: Vec<_> = peers.collect();
    let mut samples: Vec<Samples> = peers.iter().map(|_| Samples::default()).collect();
    for round in 0..=runs {
        for (peer, samples) in peers.iter().zip(&mut samples) {
            let taken = timed(command(*peer)).with_context(|| format!("{what} of {}", peer.name()))?;
            // The first round warms caches.
            if round > 0 {
                samples.push(taken.as_secs_f64() * 1e3);
            }
        }
    }
    for (peer, samples) in peers.iter().zip(&samples) {
        row(table, what, peer.name(), samples);
    }
    Ok(())
}

fn row(table: &mut String, what: &str, who: &str, samples: &Samples) {
    let (median, p99, least, most) = (samples.median(), samples.p99(), samples.min(), samples.max());
    let line = format!("| {what} | {who} | {median:.1} | {p99:.1} | {least:.1} | {most:.1} | {} |", samples.len());
    // The whole takes minutes.
    eprintln!("{line}");
    writeln!(table, "{line}").expect("a string takes all that is written");
}

fn millis(runs: usize, command: impl Fn() -> Command) -> Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..=runs {
        let taken = timed(command())?;
        if round > 0 {
            samples.push(taken.as_secs_f64() * 1e3);
        }
    }
    Ok(samples)
}

fn rate(runs: usize, transfer: impl Fn() -> Result<Duration>) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..runs {
        samples.push(BULK as f64 / 1e6 / transfer()?.as_secs_f64());
    }
    Ok(samples)
}

/// From just before the spawn to just after the reaping.
fn timed(mut command: Command) -> Result<Duration> {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {command:?}"))?;
    let taken = started.elapsed();
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(taken)
}

/// As [`timed`], for a command that leaves something in the background that keeps its output open.
fn quietly(mut command: Command) -> Result<Duration> {
    let started = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "{command:?} failed");
    Ok(started.elapsed())
}

/// The program's path, if this machine has it.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    dirs.map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}
