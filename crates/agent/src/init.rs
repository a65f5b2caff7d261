//! The small init of `run --init`: the container's first process, whose only child is the command. It reaps what the
//! command leaves behind, passes every signal on to it, and ends as it ends.
//!
//! This is the agent's program once more, bound over [`INSIDE`]; the guest's own PID 1 is in [`crate::serve`].

use crate::join::Failure;
use crate::reaper::{self, Reaper};
use anyhow::{Context, Result};
use fcvm_proto::message::Exit;
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// The argument that makes the agent's program this init; the command follows.
pub(crate) const ARGUMENT: &str = "--";

/// Where the program is in the container.
const INSIDE: &str = "/dev/init";
/// Where it is in the guest system: the agent's own file lies under the system disk.
const OUTSIDE: &str = "/run/fcvm/init";

/// Puts the init before the command of an OCI configuration, and the program into its container.
pub(crate) fn precede(oci: &mut Value) -> Result<()> {
    File::create(OUTSIDE).with_context(|| format!("make {OUTSIDE}"))?;
    mount_bind("/proc/self/exe", OUTSIDE).with_context(|| format!("bind the agent's program to {OUTSIDE}"))?;
    mount_remount(OUTSIDE, MountFlags::BIND | MountFlags::RDONLY, c"").context("protect the agent's program")?;
    lay_before(oci);
    Ok(())
}

fn lay_before(oci: &mut Value) {
    if let Value::Array(args) = &mut oci["process"]["args"] {
        args.splice(0..0, [json!(INSIDE), json!(ARGUMENT)]);
    }
    if let Value::Array(mounts) = &mut oci["mounts"] {
        let options = ["bind", "ro", "nosuid", "nodev"];
        mounts.push(json!({ "destination": INSIDE, "type": "bind", "source": OUTSIDE, "options": options }));
    }
}

/// The init's `main`.
pub(crate) fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    let Some(program) = words.next() else { return fail(&refusal(125, "no command was given")) };
    match live(&program, words.collect()) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("init: {}", failure.reason);
    ExitCode::from(failure.code)
}

fn refusal(code: u8, reason: impl Into<String>) -> Failure {
    Failure { code, reason: reason.into() }
}

fn live(program: &OsString, args: Vec<OsString>) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| refusal(125, error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    LocalSet::new().block_on(&runtime, async {
        let deaths = reaper::deaths().map_err(failed)?;
        let mut signals = caught();
        let child = Command::new(program).args(args).spawn().map_err(|error| not_started(program, &error))?;
        // It is reaped with the others; its handle waits for nobody.
        let pid = child.id() as i32;
        let reaper = Reaper::default();
        let mut ended = reaper.ended(pid);
        let reaping = reaper.clone();
        tokio::task::spawn_local(async move { reaping.run(deaths).await });
        let _ = let_go_of_streams();
        loop {
            tokio::select! {
                exit = &mut ended => return exit.map_err(|_| refusal(125, "the command was lost")),
                Some(number) = signals.recv() => crate::pump::signal(pid, number),
            }
        }
    })
}

fn not_started(program: &OsString, error: &std::io::Error) -> Failure {
    let code = if error.kind() == ErrorKind::NotFound { 127 } else { 126 };
    refusal(code, format!("exec {}: {error}", Path::new(program).display()))
}

/// Signals from now on: all that can be caught but those of this program's own faults and of its children.
fn caught() -> mpsc::Receiver<i32> {
    const OWN: [Signal; 4] = [Signal::BUS, Signal::TRAP, Signal::ABORT, Signal::CHILD];
    let (sender, receiver) = mpsc::channel(64);
    for number in (1..=64).filter(|number| !OWN.map(Signal::as_raw).contains(number)) {
        // The kernel's and the C library's own cannot be had.
        let Ok(mut stream) = signal(SignalKind::from_raw(number)) else { continue };
        let sender = sender.clone();
        tokio::task::spawn_local(
            async move { while stream.recv().await.is_some() && sender.send(number).await.is_ok() {} },
        );
    }
    receiver
}

/// The command alone holds its streams: that it closes one is seen at the other end.
fn let_go_of_streams() -> std::io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_init_stands_before_the_command_and_is_mounted_last() {
        let mut oci = json!({ "process": { "args": ["sleep", "1"] }, "mounts": [{ "destination": "/dev" }] });
        lay_before(&mut oci);
        assert_eq!(oci["process"]["args"], json!(["/dev/init", "--", "sleep", "1"]));
        assert_eq!(oci["mounts"][1]["destination"], "/dev/init");
    }
}
