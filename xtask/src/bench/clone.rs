//! What starting from a snapshot costs, with a guest of 512 MiB that runs a shell.
//!
//! Clock points. *Pause*: from before the monitor is told to stop until it has answered that the machine goes on, as the
//! owner measures it. *Restore*: from the start of the monitor's jail until the guest's report was checked, as the owner
//! measures it. *Announced*: from just before `snapshot run -d` is spawned until it was reaped. *First exec*: the same for
//! `snapshot run --exec true`, less the removal of the VM, which is measured beside it. *All answer*: from just before
//! `snapshot run -n N -d` is spawned until the last of N `exec true`, all spawned at once after it, was reaped.

use super::fcvm::memory_of;
use super::{HEAD, Samples, millis, row, timed};
use anyhow::{Context, Result};
use fcvm_e2e::{BUSYBOX, Host};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::Instant;

/// Clones at one time.
const MANY: usize = 16;

pub(super) fn measure(runs: usize) -> Result<String> {
    let host = Host::new();
    host.start("source", &["--memory=512m", BUSYBOX, "sh", "-c", "while :; do sleep 1; done"]);
    let mut table = HEAD.to_owned();
    let pause = pauses(&host, runs, "source")?;
    row(&mut table, "pause of a VM that booted, ms", "fcvm", &pause);
    host.fcvm(["snapshot", "create", "--tag", "warm", "source"]).ok();
    host.fcvm(["snapshot", "run", "warm", "-d", "-q", "--name", "clone"]).ok();
    row(&mut table, "pause of a VM that was restored, ms", "fcvm", &pauses(&host, runs, "clone")?);
    host.fcvm(["rm", "-f", "-t", "0", "clone"]).ok();
    let (announced, restores) = restores(&host, runs)?;
    row(&mut table, "`snapshot run -d` announced, ms", "fcvm", &announced);
    row(&mut table, "of it restore, ms", "fcvm", &restores);
    let exec = ["snapshot", "run", "warm", "-q", "--exec", "true"];
    row(&mut table, "`snapshot run --exec true`, removal included, ms", "fcvm", &millis(runs, || host.command(exec))?);
    row(&mut table, &format!("{MANY} clones, all answer, ms"), "fcvm", &many(&host, runs.min(5))?);
    row(&mut table, "idle clone's proportional memory, 10 of them, MiB", "fcvm", &idle(&host)?);
    row(&mut table, "`fork -n 10`, ms", "fcvm", &forks(&host, runs.min(5))?);
    Ok(table)
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

fn many(host: &Host, runs: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    let names: Vec<String> = (1..=MANY).map(|number| format!("m-{number}")).collect();
    for _ in 0..runs {
        let started = Instant::now();
        timed(host.command(["snapshot", "run", "warm", "-d", "-q", "--name", "m", "-n", &MANY.to_string()]))?;
        let spawn = |name: &String| host.command(["exec", name, "true"]).stdin(Stdio::null()).spawn();
        let execs: Vec<Child> = names.iter().map(spawn).collect::<Result<_, _>>()?;
        for mut exec in execs {
            anyhow::ensure!(exec.wait()?.success(), "a clone did not answer");
        }
        samples.push(started.elapsed().as_secs_f64() * 1e3);
        remove(host, &names);
    }
    Ok(samples)
}

fn idle(host: &Host) -> Result<Samples> {
    let mut samples = Samples::default();
    let names: Vec<String> = (1..=10).map(|number| format!("i-{number}")).collect();
    timed(host.command(["snapshot", "run", "warm", "-d", "-q", "--name", "i", "-n", "10"]))?;
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
