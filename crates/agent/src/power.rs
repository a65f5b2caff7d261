//! The end of the machine: everything written back, then the power off.

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Signal, kill_process};
use rustix::system::{RebootCommand, reboot};
use std::process::ExitCode;

/// Ends what still runs and makes the scratch disk clean.
pub(crate) fn settle() -> std::io::Result<()> {
    // Every process but this one; what cannot be killed holds nothing of the scratch disk that matters.
    for pid in processes() {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    rustix::fs::sync();
    for place in ["/run/fcvm/rootfs", "/run/fcvm/scratch"] {
        let _ = unmount(place, UnmountFlags::DETACH);
    }
    rustix::fs::sync();
    Ok(())
}

/// Whether the monitor has no power button, only a keyboard's reset line: then the kernel would halt for ever.
fn ends_by_restart() -> bool {
    std::fs::read_to_string("/proc/cmdline")
        .is_ok_and(|line| line.split_ascii_whitespace().any(|word| word == "reboot=k"))
}

fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let user = |pid: &i32| *pid > 1 && std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    entries.filter_map(number).filter(user).collect()
}

/// Turns the machine off. Where that is refused (this is no PID 1), the program just ends.
pub(crate) fn off() -> ExitCode {
    rustix::fs::sync();
    if !ends_by_restart() {
        let _ = reboot(RebootCommand::PowerOff);
    }
    let _ = reboot(RebootCommand::Restart);
    ExitCode::FAILURE
}
