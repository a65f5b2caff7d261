//! The program in the guest: PID 1. Boots, greets the host, does what it is told, powers off.
//!
//! Started anew with the argument `join` it is the helper that enters the container for one command ([`join`]); with
//! `--` it is the small init inside the container that `run --init` asks for ([`init`]).

mod boot;
mod census;
mod cgroup;
mod changes;
mod command;
mod container;
mod copy;
mod dial;
mod disk;
mod exec;
mod files;
mod helper;
mod init;
mod join;
mod life;
mod link;
mod network;
mod place;
mod podman;
mod power;
mod pump;
mod reaper;
mod scratch;
mod serve;
mod terminal;
mod usage;
mod user;
mod volume;
mod wake;
mod world;

use anyhow::{Context, Result};
use fcvm_proto::message::Power;
use std::process::ExitCode;

/// musl's allocator gives large pieces back to the kernel at once: every frame of a stream would be mapped, cleared page by
/// page and unmapped, which under software emulation takes as long as all else that is done with it.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(join::ARGUMENT) => return join::main(),
        Some(init::ARGUMENT) => return init::main(),
        Some(power::REBOOT) => return power::press(Power::Restart),
        Some(power::POWER_OFF) => return power::press(Power::Off),
        _ => {}
    }
    // A panic of PID 1 would be a panic of the kernel: whatever happens, the machine is powered off with a word.
    let lived = std::panic::catch_unwind(live);
    match lived {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("fcvm-agent: {error:#}"),
        Err(_) => eprintln!("fcvm-agent: a defect ended the agent"),
    }
    power::off()
}

fn live() -> Result<()> {
    boot::early()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(life::live())
}
