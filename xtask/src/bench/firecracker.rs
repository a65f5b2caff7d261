//! What Firecracker costs with us around it, on any `/dev/kvm`: a guest of twenty instructions, which a paravirtual KVM
//! interprets. So what is measured is processes, calls, memory and pages, not guests.
//!
//! Clock points. *Restore*: from just before Firecracker's process, or its jail, is started until it has answered that the
//! machine goes on; *alone* is Firecracker itself on the same files with the same two calls, no jail and nothing of ours;
//! the two in turn, and *our addition* is the difference of each pair. *30 restored*: from before the first is started, on
//! two threads, until the last has answered. *A fault*: a thread of this process touches memory that the server fills, 64
//! KiB apart, one after the other; the time for all by their number. *Faults of guests*: places of guests' memory that each
//! brought the server a fault; every one was looked at by the guest. *Put ahead*: from the answer that the machine
//! goes on until its monitor has the whole memory, by its resident size. *Killed server noticed*: from before the
//! signal until the owner knows how its machine ended. *Capture*: from before the machine is told to stop until it goes on.

mod alone;
mod capture;
mod served;

use super::{HEAD, Samples, row};
use alone::Alone;
use anyhow::{Context, Result, anyhow};
use fcvm_e2e::native::{Guest, Native, PageServer, Then, passes};
use fcvm_spec::PageSize;
use fcvm_vmm::Saved;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The first argument of this program as the owner of one machine.
pub(crate) const OWNER: &str = "__owner";

/// Machines at one time.
const MANY: usize = 30;

/// A guest with 512 MiB, all of them written, that sleeps.
const GUEST: Guest =
    Guest { memory: 512, pages: PageSize::Base, reach: 512, step: 4096, writes: false, then: Then::Rest };

pub(super) fn measure(runs: usize) -> Result<String> {
    let native = Native::find().map_err(|missing| anyhow!(missing))?;
    let dir = tempfile::tempdir()?;
    let saved = block_on(native.saved(&GUEST, dir.path()))?;
    let mut table = HEAD.to_owned();
    restores(&mut table, (&native, &saved), dir.path(), runs)?;
    let server = native.serve(&saved, Vec::new(), dir.path());
    for (what, server) in [("mapped", None), ("served", Some(&server))] {
        many(&mut table, (&native, &saved), (what, server), runs.min(5))?;
    }
    row(&mut table, "page server's proportional memory, MiB", "fcvm", &one(proportional(server.process.pid())?));
    drop(server);
    row(&mut table, "resident memory of an owner of one machine, MiB", "fcvm", &owner(dir.path(), runs.min(5))?);
    served::measure(&mut table, (&native, &saved), runs)?;
    capture::measure(&mut table, &native, runs)?;
    Ok(table)
}

/// Firecracker alone and with us around it, in turn.
fn restores(table: &mut String, (native, saved): (&Native, &Saved), dir: &Path, runs: usize) -> Result<()> {
    let server = native.serve(saved, Vec::new(), &fresh(dir, "server")?);
    let mut samples: [Samples; 5] = Default::default();
    let [alone, mapped, served, addition, addition_served] = &mut samples;
    for round in 0..=runs {
        let started = Instant::now();
        let machine = Alone::restore(&native.firecracker.program, saved, alone::Tracking::Off)?;
        let taken = started.elapsed().as_secs_f64() * 1e3;
        drop(machine);
        let of_mapped = timed_restore(native, (saved, None), &fresh(dir, "mapped")?)?;
        let of_served = timed_restore(native, (saved, Some(&server)), &fresh(dir, "served")?)?;
        if round > 0 {
            alone.push(taken);
            mapped.push(of_mapped);
            served.push(of_served);
            addition.push(of_mapped - taken);
            addition_served.push(of_served - taken);
        }
    }
    row(table, "restore, mapped, ms", "Firecracker alone", alone);
    row(table, "restore, mapped, ms", "fcvm", mapped);
    row(table, "restore, served, ms", "fcvm", served);
    row(table, "our addition, mapped, ms", "fcvm", addition);
    row(table, "our addition, served, ms", "fcvm", addition_served);
    Ok(())
}

fn timed_restore(native: &Native, from: (&Saved, Option<&PageServer>), dir: &Path) -> Result<f64> {
    block_on(async {
        let started = Instant::now();
        let machine = native.restore(&GUEST, from, dir).await.map_err(in_full)?;
        let taken = started.elapsed().as_secs_f64() * 1e3;
        drop(machine);
        Ok(taken)
    })?
}

fn many(
    table: &mut String,
    (native, saved): (&Native, &Saved),
    (what, server): (&str, Option<&PageServer>),
    runs: usize,
) -> Result<()> {
    let (mut wall, mut memory) = (Samples::default(), Samples::default());
    for _ in 0..runs {
        let dir = tempfile::tempdir()?;
        let dirs: Vec<_> = (0..MANY).map(|number| fresh(dir.path(), &number.to_string())).collect::<Result<_>>()?;
        let (ready, done) = (std::sync::Barrier::new(3), std::sync::Barrier::new(3));
        let taken = std::thread::scope(|scope| {
            let work = |dirs: &[std::path::PathBuf]| -> Result<Vec<f64>> {
                ready.wait();
                let machines = block_on(async {
                    let mut machines = Vec::new();
                    for dir in dirs {
                        machines.push(native.restore(&GUEST, (saved, server), dir).await.map_err(in_full)?);
                    }
                    anyhow::Ok(machines)
                });
                done.wait();
                machines??.iter().map(|machine| proportional(machine.pid())).collect()
            };
            let halves: Vec<_> = dirs.chunks(MANY / 2).map(|half| scope.spawn(move || work(half))).collect();
            ready.wait();
            let started = Instant::now();
            done.wait();
            let taken = started.elapsed().as_secs_f64() * 1e3;
            for half in halves {
                half.join().expect("a thread does not panic")?.into_iter().for_each(|mib| memory.push(mib));
            }
            anyhow::Ok(taken)
        })?;
        wall.push(taken);
    }
    row(table, &format!("{MANY} restored, {what}, ms"), "fcvm", &wall);
    row(table, &format!("proportional memory of one of {MANY} monitors, {what}, MiB"), "fcvm", &memory);
    Ok(())
}

/// The resident memory of a process that has nothing but a machine.
fn owner(dir: &Path, runs: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..runs {
        let mut command = Command::new(std::env::current_exe()?);
        let mut owner =
            command.args([OWNER.as_ref(), dir.as_os_str()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(owner.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        samples.push(of_process(owner.id(), "status", "VmRSS:")?);
        drop(owner.stdin.take());
        owner.wait()?;
    }
    Ok(samples)
}

/// Owns a machine until standard input ends.
pub(crate) fn own(dir: &Path) -> Result<()> {
    let native = Native::find().map_err(|missing| anyhow!(missing))?;
    block_on(async {
        let machine = fcvm_vmm::boot(
            &native.spec(&Guest { memory: 64, reach: 64, ..GUEST }, &fresh(dir, "owned")?),
            &native.entrance(),
        )
        .await;
        let machine = machine.map_err(in_full)?;
        passes(&machine, 1).await;
        println!("{}", machine.pid());
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
        anyhow::Ok(())
    })?
}

fn fresh(dir: &Path, name: &str) -> Result<std::path::PathBuf> {
    let path = dir.join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    std::fs::create_dir(&path)?;
    Ok(path)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

fn one(value: f64) -> Samples {
    let mut samples = Samples::default();
    samples.push(value);
    samples
}

/// The proportional memory of a process in MiB.
fn proportional(pid: u32) -> Result<f64> {
    of_process(pid, "smaps_rollup", "Pss:")
}

/// A field of one of a process's files, in MiB.
fn of_process(pid: u32, file: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in {path}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn in_full(error: fcvm_vmm::Error) -> anyhow::Error {
    anyhow::Error::from(error)
}
