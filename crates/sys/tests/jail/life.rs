//! How jailed programs end, above all with their owner.

use crate::program::{run, shell, spawn};
use fcvm_sys::process::{Ending, Identity};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode, Stdio};

pub(crate) const TESTS: &[crate::Test] = &[
    ("an_exit_status_comes_through", exits),
    ("a_program_is_a_direct_child_of_its_owner", is_a_child),
    ("a_dropped_program_is_gone", is_dropped),
    ("a_killed_owner_leaves_nothing_alive", owner_is_killed),
];

pub(crate) const ROOT_TESTS: &[crate::Test] =
    &[("a_killed_owner_who_is_not_root_leaves_nothing_alive", other_owner_is_killed)];

fn exits() {
    assert_eq!(run(shell("exit 3")).1, Ending::Code(3));
    let mut spawned = spawn(shell("exec sleep 1000"));
    spawned.child.kill().unwrap();
    assert_eq!(spawned.child.wait().unwrap(), Ending::Signal(9));
}

fn is_a_child() {
    let spawned = spawn(shell("exec sleep 1000"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", spawned.child.pid())).unwrap();
    assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "{status}");
}

fn is_dropped() {
    let spawned = spawn(shell("sleep 1000 & exec sleep 1000"));
    let program = Identity::of(spawned.child.pid()).unwrap();
    drop(spawned);
    assert!(!program.is_alive());
}

fn owner_is_killed() {
    outlives(Command::new("/proc/self/exe"));
}

fn other_owner_is_killed() {
    // The one of the build may be out of another user's reach.
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let executable = directory.path().join("owner");
    std::fs::copy("/proc/self/exe", &executable).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65533", "--regid", "65533", "--clear-groups", "--"]).arg(executable);
    outlives(command);
}

/// Kills an owner and waits for the end of what it owned.
fn outlives(mut owner: Command) {
    let mut owner = owner.arg(crate::OWNER).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let owned: Vec<_> = line.split_whitespace().map(|pid| Identity::of(pid.parse().unwrap()).unwrap()).collect();
    assert!(!owned.is_empty());
    assert!(owned.iter().all(Identity::is_alive), "{line}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    // There is nothing to wait on but the processes themselves; the runner's deadline is the only one.
    while owned.iter().any(Identity::is_alive) {
        std::thread::yield_now();
    }
}

/// Makes a jail with two processes, says their numbers, and stays until it is killed.
pub(crate) fn own_a_jail() -> ExitCode {
    let (output, theirs) = std::io::pipe().unwrap();
    let script = "sleep 1000 & echo; exec sleep 1000";
    let spawned = spawn(fcvm_sys::jail::Jail { stdout: theirs.into(), ..shell(script) });
    BufReader::new(output).read_line(&mut String::new()).unwrap();
    let first = spawned.child.pid();
    let others = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    println!("{first} {others}");
    loop {
        std::thread::park();
    }
}
