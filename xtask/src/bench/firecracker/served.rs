//! What a page server does: faults, pages put ahead, and its end.

use super::{GUEST, block_on, fresh, in_full, of_process, one};
use crate::bench::{Samples, row};
use anyhow::{Context, Result, ensure};
use fcvm_e2e::native::{Guest, Native, Then, passes};
use fcvm_pager::{Link, Region};
use fcvm_sys::mapping::{Anonymous, PageSize};
use fcvm_sys::userfaultfd::Userfaultfd;
use fcvm_vmm::{Exit, Saved};
use rustix::process::{Pid, PidfdFlags};
use std::os::fd::AsFd;
use std::time::Instant;

/// What a server brings with a page at most, bytes: so far apart each touch is a fault of its own.
const AROUND: u64 = 64 << 10;

/// Faults that are looked at one by one.
const FAULTS: u64 = 100_000;

pub(super) fn measure(table: &mut String, (native, saved): (&Native, &Saved), runs: usize) -> Result<()> {
    row(table, "a fault, µs", "fcvm", &fault(native, saved, runs)?);
    faults_of_guests(table, native)?;
    row(table, "memory put ahead, GB/s", "fcvm", &ahead(native, saved, runs)?);
    row(table, "killed server noticed, ms", "fcvm", &killed(native, saved, runs)?);
    Ok(())
}

/// This process plays the machine.
fn fault(native: &Native, saved: &Saved, runs: usize) -> Result<Samples> {
    let dir = tempfile::tempdir()?;
    let server = native.serve(saved, Vec::new(), dir.path());
    let own = Pid::from_raw(std::process::id().cast_signed()).context("a number")?;
    let own = rustix::process::pidfd_open(own, PidfdFlags::empty())?;
    let mut samples = Samples::default();
    for _ in 0..runs {
        let memory = Anonymous::new(u64::from(GUEST.memory) << 20, PageSize::Base)?;
        let uffd = Userfaultfd::new()?;
        uffd.register(&memory)?;
        let region = Region { start: memory.address(), size: memory.length(), offset: 0, page_size: 4096 };
        let message = serde_json::to_vec(&[region])?;
        let _link = Link::hand_over(&server.socket, &message, uffd.as_fd(), own.as_fd())?;
        let started = Instant::now();
        for place in (0..memory.length()).step_by(AROUND as usize) {
            memory.read(place);
        }
        samples.push(started.elapsed().as_secs_f64() * 1e6 / (memory.length() / AROUND) as f64);
    }
    Ok(samples)
}

fn faults_of_guests(table: &mut String, native: &Native) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let guest = Guest { step: AROUND as u32, then: Then::Again, ..GUEST };
    let clones = FAULTS.div_ceil(guest.places());
    let lost = block_on(async {
        let saved = native.saved(&guest, dir.path()).await;
        let server = native.serve(&saved, Vec::new(), dir.path());
        let mut machines = Vec::new();
        for number in 0..clones {
            let dir = fresh(dir.path(), &number.to_string())?;
            machines.push(native.restore(&guest, (&saved, Some(&server)), &dir).await.map_err(in_full)?);
        }
        for machine in &machines {
            // The pass in which it was saved, and one more. It panics at anything but the pattern.
            passes(machine, 2).await;
        }
        anyhow::Ok(machines.len() as u64 - clones)
    })??;
    ensure!(lost == 0, "{lost} machines are lost");
    let name = format!("faults of guests, {clones} at a time, none lost");
    row(table, &name, "fcvm", &one((clones * guest.places()) as f64));
    Ok(())
}

/// The whole memory is put into a machine.
fn ahead(native: &Native, saved: &Saved, runs: usize) -> Result<Samples> {
    let dir = tempfile::tempdir()?;
    let bytes = u64::from(GUEST.memory) << 20;
    let server = native.serve(saved, vec![(0, bytes / 4096)], dir.path());
    let mut samples = Samples::default();
    for _ in 0..runs {
        let dir = fresh(dir.path(), "clone")?;
        block_on(async {
            let clone = native.restore(&GUEST, (saved, Some(&server)), &dir).await.map_err(in_full)?;
            let (started, pid) = (Instant::now(), clone.pid());
            let resident = || of_process(pid, "status", "RssAnon:");
            let before = resident()?;
            let whole = f64::from(GUEST.reach) - 4.0;
            while resident()? < whole {
                std::thread::yield_now();
            }
            let put = (resident()? - before) * f64::from(1 << 20);
            samples.push(put / 1e9 / started.elapsed().as_secs_f64());
            anyhow::Ok(())
        })??;
    }
    Ok(samples)
}

fn killed(native: &Native, saved: &Saved, runs: usize) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..runs {
        let dir = tempfile::tempdir()?;
        let server = native.serve(saved, Vec::new(), dir.path());
        block_on(async {
            let clone = fresh(dir.path(), "clone")?;
            let mut clone = native.restore(&GUEST, (saved, Some(&server)), &clone).await.map_err(in_full)?;
            let started = Instant::now();
            server.process.kill()?;
            let exit = clone.wait().await;
            samples.push(started.elapsed().as_secs_f64() * 1e3);
            ensure!(matches!(exit, Exit::PagesLost(_)), "it {exit}");
            anyhow::Ok(())
        })??;
    }
    Ok(samples)
}
