//! How machines begin, stop for a while, and end.

use crate::guest::{Guest, block_on, entrance};
use fcvm_sys::process::Identity;
use fcvm_vmm::{CONSOLE_FILE, Error, Exit, Machine, MachineSpec, Origin, boot};
use rustix::process::{Pid, Signal, kill_process};
use std::error::Error as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_guest_that_panics_ends_its_machine_with_its_last_words_kept", panics),
    ("a_paused_machine_goes_on_after_resume", pauses),
    ("a_killed_machine_is_gone_and_says_so_again", is_killed),
    ("a_monitor_that_someone_else_kills_is_noticed", is_murdered),
    ("a_dropped_machine_is_gone", is_dropped),
    ("a_kernel_that_is_none_is_an_error_with_the_monitors_words", is_no_kernel),
    ("a_missing_file_is_named", misses_a_file),
    ("a_monitor_is_confined", is_confined),
    ("a_killed_owner_leaves_no_monitor", owner_is_killed),
];

async fn start(guest: &Guest, directory: &tempfile::TempDir) -> Machine {
    boot(&guest.panicking(directory.path()), &entrance()).await.unwrap()
}

fn panics(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut machine = start(guest, &directory).await;
        assert_eq!(machine.wait().await, guest.reset());
        let tail = machine.console().tail();
        assert!(tail.contains("Kernel panic"), "{tail}");
        let kept = std::fs::read(directory.path().join(CONSOLE_FILE)).unwrap();
        assert!(String::from_utf8_lossy(&kept).contains("Kernel panic"));
    });
}

fn pauses(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut machine = start(guest, &directory).await;
        machine.pause().await.unwrap();
        machine.pause().await.unwrap();
        machine.resume().await.unwrap();
        assert_eq!(machine.wait().await, guest.reset());
        assert!(matches!(machine.pause().await, Err(Error::Steer { what: "pause", .. })));
    });
}

fn is_killed(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut machine = start(guest, &directory).await;
        let monitor = Identity::of(machine.pid()).unwrap();
        assert_eq!(machine.kill().await, Exit::Killed);
        assert!(!monitor.is_alive());
        assert_eq!(machine.wait().await, Exit::Killed);
        assert_eq!(machine.kill().await, Exit::Killed);
    });
}

fn is_murdered(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut machine = start(guest, &directory).await;
        let monitor = Pid::from_raw(machine.pid().try_into().unwrap()).unwrap();
        kill_process(monitor, Signal::KILL).unwrap();
        assert_eq!(machine.wait().await, Exit::Signal(9));
    });
}

fn is_dropped(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let machine = start(guest, &directory).await;
        let monitor = Identity::of(machine.pid()).unwrap();
        drop(machine);
        assert!(!monitor.is_alive());
    });
}

fn is_no_kernel(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut spec = guest.panicking(directory.path());
        let Origin::Boot { kernel, initramfs } = &mut spec.origin else { unreachable!() };
        kernel.clone_from(initramfs);
        let refused = boot(&spec, &entrance()).await.unwrap_err();
        let said = format!("{refused}: {}", refused.source().map(ToString::to_string).unwrap_or_default());
        assert!(said.to_lowercase().contains("kernel"), "{said}");
    });
}

fn misses_a_file(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut spec = guest.panicking(directory.path());
        let missing = directory.path().join("missing");
        set_initramfs(&mut spec, &missing);
        match boot(&spec, &entrance()).await {
            Err(Error::File { role: "initramfs", path, .. }) => assert_eq!(path, missing),
            other => panic!("{other:?}"),
        }
        set_initramfs(&mut spec, directory.path());
        assert!(matches!(boot(&spec, &entrance()).await, Err(Error::File { .. })));
    });
}

fn set_initramfs(spec: &mut MachineSpec, path: &Path) {
    let Origin::Boot { initramfs, .. } = &mut spec.origin else { unreachable!() };
    path.clone_into(initramfs);
}

fn is_confined(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let machine = start(guest, &directory).await;
        let process = format!("/proc/{}", machine.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1".to_owned(), "2".to_owned()));
        let user: u32 = field("Uid").split_whitespace().next().unwrap().parse().unwrap();
        if fcvm_sys::process::runs_as_root() {
            assert_eq!(user, fcvm_sys::jail::one_user(), "no other VM's monitor is this user");
        }
        assert_ne!(user, 0);
        if *machine.isolation() == fcvm_sys::jail::Isolation::Full {
            for name in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
                let of = |process: &str| std::fs::read_link(format!("{process}/ns/{name}")).unwrap();
                assert_ne!(of(&process), of("/proc/self"), "{name}");
            }
        }
    });
}

fn owner_is_killed(_guest: &Guest) {
    let mut owner = Command::new("/proc/self/exe").arg(crate::OWNER).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let monitor = Identity::of(line.trim().parse().unwrap()).unwrap();
    assert!(monitor.is_alive());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until_gone(monitor);
}

/// Waits on the process itself; the harness's deadline is the only one.
fn wait_until_gone(process: Identity) {
    while process.is_alive() {
        std::thread::yield_now();
    }
}

/// Boots a machine, says its monitor's number, and stays until it is killed.
pub(crate) fn own_a_machine() -> ExitCode {
    let guest = Guest::find().unwrap();
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let machine = start(&guest, &directory).await;
        machine.pause().await.unwrap();
        println!("{}", machine.pid());
        std::future::pending::<()>().await;
    });
    ExitCode::FAILURE
}
