//! The end of the machine: everything written back, then the power off. And the button by which programs of the guest
//! system ask for it: what becomes of that is the host's to say.

use anyhow::{Context, Result};
use fcvm_link::Session;
use fcvm_proto::message::{GuestRequest, Power};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Signal, kill_process};
use rustix::system::{RebootCommand, reboot};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

/// Where the button is. The container does not see it.
const BUTTON: &str = "/run/fcvm/power";

/// The arguments with which this program presses it, for `reboot` and `poweroff` in the guest system.
pub(crate) const REBOOT: &str = "reboot";
pub(crate) const POWER_OFF: &str = "poweroff";

/// Presses the button.
pub(crate) fn press(wanted: Power) -> ExitCode {
    let word = serde_json::to_vec(&wanted).expect("two words are plain text");
    match UnixStream::connect(BUTTON).and_then(|mut button| button.write_all(&word)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fcvm-agent: press the power button: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the button.
pub(crate) fn button() -> Result<Rc<UnixListener>> {
    UnixListener::bind(BUTTON).map(Rc::new).context("make the power button")
}

/// Tells the host who presses it, as long as a life lasts.
pub(crate) async fn watch(button: Rc<UnixListener>, session: Session) {
    while let Ok((mut presser, _)) = button.accept().await {
        let mut word = Vec::new();
        // Its end: then its exit code stands, and ending its world does not change that.
        let read = (&mut presser).take(64).read_to_end(&mut word).await;
        let Ok(wanted) = serde_json::from_slice::<Power>(&word) else { continue };
        if read.is_err() {
            continue;
        }
        if let Ok(stream) = session.open(&GuestRequest::Power(wanted)) {
            let (sender, mut receiver) = stream.split();
            let _done = receiver.recv().await;
            sender.finish();
        }
    }
}

/// Ends what still runs and makes the scratch disk clean.
pub(crate) fn settle() -> std::io::Result<()> {
    // Every process but this one; what cannot be killed holds nothing of the scratch disk that matters.
    for pid in processes() {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    crate::disk::settle();
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
