//! What files cost in a volume, against the guest's own disk, the host, and QEMU's virtio-9p and virtiofs.
//!
//! Clock points are those of the program that does the work in each place (`xtask/work`): from just before the first
//! operation until the last is done, by the monotonic clock of where it runs, by their number. *Uncached*: the guest's
//! caches were dropped just before; the host has all in its page cache. *Cached*: the same was done just before, and what is
//! told is the mean of ten times. *After a second*: the same was done a little more than a second before, so what is known
//! has to be asked again. A program (`git`, `tar`) is measured from before its start until it was reaped, and is in memory.
//! All places do one thing in turn before anything else is done, so that a drift of the machine meets all alike.

mod goal;
mod machine;
mod place;
mod tools;

use super::{HEAD, Samples, row};
use anyhow::{Context, Result};
use fcvm_e2e::{BUSYBOX, Host};
use goal::Kind::{self, Cached, Peer, Sequential, Uncached};
use machine::Machine;
use place::Place;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Files that are looked at, and in the repository.
    files: usize,
    repository: usize,
    /// The large file.
    mib: usize,
    /// Places in it, and those of them that are waited for one by one.
    random: usize,
    synced: usize,
    /// The memory of each machine: the large file and all else find room in its cache.
    memory: usize,
}

/// What software emulation does in minutes.
pub(super) const SMALL: Scale = Scale { files: 400, repository: 200, mib: 64, random: 500, synced: 100, memory: 768 };
/// What the goals were set for.
pub(super) const FULL: Scale =
    Scale { files: 20_000, repository: 50_000, mib: 1024, random: 10_000, synced: 1000, memory: 3072 };

/// In what a row is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Microseconds of each.
    Micros,
    /// Milliseconds of each.
    Millis,
    /// Each is a MiB.
    Rate,
}

/// One thing that is done everywhere.
struct Row {
    what: &'static str,
    unit: Unit,
    /// What kind of goal it has.
    goal: Kind,
    /// What the work is told: how the caches are to be, and the operation.
    work: &'static str,
}

const fn micros(goal: Kind, what: &'static str, work: &'static str) -> Row {
    Row { what, unit: Unit::Micros, goal, work }
}

const fn rate(what: &'static str, work: &'static str) -> Row {
    Row { what, unit: Unit::Rate, goal: Sequential, work }
}

const fn millis(goal: Kind, what: &'static str, work: &'static str) -> Row {
    Row { what, unit: Unit::Millis, goal, work }
}

/// In this order: what is read was written before.
const ROWS: &[Row] = &[
    micros(Uncached, "`stat`, uncached, µs", "cold stat {files}"),
    micros(Cached, "`stat`, cached, µs", "warm stat 100"),
    micros(Peer, "`stat`, after a second, µs", "later stat {files}"),
    micros(Uncached, "`readdir`, a name, uncached, µs", "cold list"),
    micros(Cached, "`readdir`, a name, cached, µs", "warm list"),
    micros(Uncached, "create and unlink, µs", "as-is create {files}"),
    micros(Peer, "open, read 4 KiB, close, uncached, µs", "cold small {files}"),
    micros(Peer, "open, read 4 KiB, close, cached, µs", "warm small 50"),
    rate("write a file, `fsync`, MB/s", "as-is write {mib}"),
    rate("read a file, uncached, MB/s", "cold read"),
    rate("read a file, cached, MB/s", "as-is read"),
    micros(Peer, "random read of 4 KiB, uncached, µs", "cold random-read {random}"),
    micros(Peer, "random write of 4 KiB, µs", "as-is random-write {random}"),
    micros(Peer, "random write of 4 KiB and `fsync`, µs", "as-is random-sync {synced}"),
    millis(Uncached, "`git status`, uncached, ms", "cold run repository {git} status"),
    millis(Cached, "`git status`, cached, ms", "as-is run repository {git} status"),
    millis(Peer, "`tar x`, ms", "as-is unpack {tools}/repository.tar unpacked"),
];

/// Measures; figures of the places, and of a volume against the goals.
pub(super) fn measure(rounds: usize, scale: &Scale) -> Result<String> {
    let host = Host::new();
    let tools = tools::gather(&host.path().join("tools"), scale.repository)?;
    let dirs: Vec<PathBuf> =
        ["native", "volume", "writeback", "nine", "virtiofs"].map(|it| host.path().join(it)).into();
    dirs.iter().try_for_each(std::fs::create_dir)?;
    let [native, volume, writeback, nine, virtiofs] = &dirs[..] else { unreachable!("five directories") };
    guest(&host, &tools, volume, writeback, scale)?;
    let machine = Machine::start(&host, &tools, (nine, virtiofs), scale.memory)?;
    let natively = Place::native("the host", native, &tools);
    let mut places = vec![
        Place::guest("the guest's disk", &host, "/own"),
        Place::guest("a volume", &host, "/volume"),
        Place::guest("a volume, `cache=writeback`", &host, "/writeback"),
    ];
    if let Some(machine) = &machine {
        places.extend(machine.places());
    }
    // Where the host has the files it makes them: that takes a guest's volume the longest.
    for dir in &dirs {
        fill(&Place::native("", dir, &tools), scale)?;
    }
    fill(&places[0], scale)?;
    if let Some(disk) = places.iter().find(|place| place.name == machine::DISK) {
        fill(disk, scale)?;
    }
    places.insert(0, natively);
    for place in &places {
        // What was unpacked here has other inode numbers than the index says: it is looked at and written down once.
        place.work("as-is run repository {git} status", scale)?;
    }
    table(rounds, scale, &places)
}

/// One VM, with a disk of its own, a volume, and one that nobody else writes.
fn guest(host: &Host, tools: &Path, volume: &Path, writeback: &Path, scale: &Scale) -> Result<()> {
    let memory = format!("--mem={}", scale.memory);
    let volume = fcvm_e2e::volume(volume, "/volume");
    let writeback = fcvm_e2e::volume(writeback, "/writeback:cache=writeback");
    let tmpfs = format!("{}:exec", place::TOOLS);
    // Privileged: it drops the guest's caches.
    let flags = ["--privileged", "--network=none", &memory, "-v", "/own", "-v", &volume, "-v", &writeback];
    let rest = ["--tmpfs", &tmpfs, BUSYBOX, "sleep", "100000"];
    host.start(place::VM, &[&flags[..], &rest].concat());
    let tools = format!("{}/.", tools.display());
    super::timed(host.command(["cp", &tools, &format!("{}:{}", place::VM, place::TOOLS)])).map(drop)
}

fn fill(place: &Place<'_>, scale: &Scale) -> Result<()> {
    place.work("as-is fill {files}", scale)?;
    place.work("as-is unpack {tools}/repository.tar repository", scale).map(drop)
}

fn table(rounds: usize, scale: &Scale, places: &[Place<'_>]) -> Result<String> {
    let mut table = HEAD.to_owned();
    let mut goals = goal::HEAD.to_owned();
    for one in ROWS {
        let mut samples: Vec<Samples> = places.iter().map(|_| Samples::default()).collect();
        for _ in 0..rounds {
            for (place, samples) in places.iter().zip(&mut samples) {
                // The host's own caches are everybody's: they stay.
                if place.is_native() && one.work.starts_with("cold") {
                    continue;
                }
                let nanos = place.work(one.work, scale).with_context(|| format!("{} in {}", one.what, place.name))?;
                samples.push(one.unit.of(nanos));
            }
        }
        let measured = places.iter().zip(&samples).filter(|(_, samples)| samples.len() > 0);
        measured.clone().for_each(|(place, samples)| row(&mut table, one.what, place.name, samples));
        let medians: Vec<(&str, f64)> = measured.map(|(place, samples)| (place.name, samples.median())).collect();
        goal::judge(&mut goals, one, &medians);
    }
    Ok(format!("{goals}\n{table}"))
}

impl Unit {
    fn of(self, nanos: f64) -> f64 {
        match self {
            Self::Micros => nanos / 1e3,
            Self::Millis => nanos / 1e6,
            Self::Rate => f64::from(1 << 20) / 1e6 / (nanos / 1e9),
        }
    }
}

/// A command that has to succeed; returns what it wrote.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}
