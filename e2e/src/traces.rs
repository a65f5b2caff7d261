//! What is on this machine of one data directory besides images and records. Read from the kernel and the disk: `fcvm` is
//! not asked. That its own words agree is the business of `host`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a process that is about to end may take.
const PATIENCE_S: i64 = 20;

/// A process that belongs to a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its command line.
    pub command: String,
}

/// The processes that name the data directory in their arguments or environment or have a file of it open: clients,
/// owners and monitors, none of which hides all three. Zombies have none.
pub(crate) fn processes(data: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("list processes").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let own = std::process::id();
    pids.filter(|pid| u32::try_from(*pid) != Ok(own)).filter_map(|pid| belonging(pid, data)).collect()
}

fn belonging(pid: i32, data: &Path) -> Option<Process> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let arguments = fs::read(proc.join("cmdline")).ok()?;
    let mine = data.as_os_str().as_bytes();
    let named = |bytes: &[u8]| bytes.windows(mine.len()).any(|window| window == mine);
    let opened = || {
        let open = fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.starts_with(data))
    };
    let environment = || fs::read(proc.join("environ")).is_ok_and(|environment| named(&environment));
    let command = || String::from_utf8_lossy(&arguments).replace('\0', " ");
    (named(&arguments) || environment() || opened()).then(|| Process { pid, command: command() })
}

/// Waits until no process is left but these; panics if one stays.
#[track_caller]
pub(crate) fn await_silence(data: &Path, but: &[i32]) {
    loop {
        let mut left = processes(data);
        left.retain(|process| !but.contains(&process.pid));
        let Some(process) = left.first() else { return };
        // One that has ended since is what is waited for.
        let Ok(pidfd) = pidfd_open(Pid::from_raw(process.pid).expect("a number of /proc"), PidfdFlags::empty()) else {
            continue;
        };
        let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
        let limit = Timespec { tv_sec: PATIENCE_S, tv_nsec: 0 };
        assert!(poll(&mut ended, Some(&limit)).expect("wait for a process") > 0, "processes are left: {left:?}");
    }
}

/// Waits until a process is stopped by a signal. It is no child of ours, so the kernel does not tell.
#[track_caller]
pub(crate) fn await_stopped(data: &Path) -> Process {
    let deadline = Instant::now() + Duration::from_secs(PATIENCE_S.unsigned_abs());
    while Instant::now() < deadline {
        if let Some(stopped) = processes(data).into_iter().find(|process| state(process.pid) == Some('T')) {
            return stopped;
        }
        std::thread::yield_now();
    }
    panic!("no process was stopped: {:?}", processes(data));
}

/// Field 3 of `/proc/PID/stat`; the second field is in parentheses and may hold anything.
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Everything else that a run could leave: mounts, sockets and files. A cgroup it has only where one is asked for.
pub(crate) fn left_overs(data: &Path) -> Vec<String> {
    let mut left = lines_with("/proc/self/mountinfo", &format!("{}/", data.display()));
    // A namespace outlives its processes as a mount of nsfs.
    left.extend(lines_with("/proc/self/mountinfo", " nsfs ").into_iter().filter(|line| line.contains("fcvm")));
    left.extend(lines_with("/proc/net/unix", &data.to_string_lossy()));
    for dir in ["vms", "names", "images/new", "images/locks"] {
        left.extend(list(&data.join(dir)).iter().map(|path| path.display().to_string()));
    }
    let unfinished = |path: &Path| path.extension().is_some_and(|extension| extension == "new" || extension == "gone");
    for dir in ["", "snapshots", "tags", "caches", "images"] {
        let here = list(&data.join(dir));
        left.extend(here.iter().filter(|path| unfinished(path)).map(|path| path.display().to_string()));
    }
    left
}

fn lines_with(path: &str, words: &str) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
}

fn list(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
