//! The container under a whole Podman: what crun would be told is told to `podman run` as flags.
//!
//! ```text
//! agent ──► podman run ──► conmon ──► crun ──► container, with the streams that the agent made
//!               └─ ends as the container ends
//! ```
//! A container with a terminal has one that conmon makes. Podman is at one of the agent's then, and copies between them:
//! that is the way in which it tells the container of sizes.

use crate::command::{self, Input, Program};
use crate::exec::Refusal;
use crate::helper::Helpers;
use crate::join::Request;
use crate::pump::{Process, Pump};
use crate::reaper::Reaper;
use crate::{cgroup, scratch};
use anyhow::{Context, Result};
use fcvm_proto::message::{Exec, Place, TerminalSize};
use fcvm_proto::plan::Health;
use rustix::fs::inotify;
use rustix::mount::mount_bind;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// What Podman calls the container.
const NAME: &str = "container";
const PODMAN: &str = "/usr/bin/podman";
/// A directory in which nothing appears but the number of the container's first process.
const STARTED: &str = "/run/fcvm/podman";
const PID_FILE: &str = "/run/fcvm/podman/pid";

/// Makes the places to which Podman writes: the system disk leads to them.
pub(crate) fn make_room() -> Result<()> {
    let room = Path::new(scratch::PLACE).join("containers");
    for name in ["cache", "tmp"] {
        fs::create_dir_all(room.join(name)).with_context(|| format!("make Podman's {name}"))?;
    }
    mount_bind(room.join("tmp"), "/var/tmp").context("make /var/tmp writable")
}

/// Starts the container of a configuration that is complete. Returns the number of its first process, and Podman's
/// process, which has its streams and ends as it ends.
pub(crate) async fn start(
    (oci, health): (&Value, Option<&Health>),
    input: Input,
    helpers: &Helpers,
    reaper: &Reaper,
) -> Result<(i32, Process), Refusal> {
    let failed = |error: anyhow::Error| Refusal::new(125, format!("{error:#}"));
    let mut appears = watch().context("watch for Podman's container").map_err(failed)?;
    let process = match terminal(oci) {
        Some(size) => helpers.run(&Request::new(&at_terminal(oci, health, size), None), reaper).await?,
        None => {
            let podman = Program::new(podman(oci, health));
            let (pid, streams) = command::start(podman, input).await.context("start Podman").map_err(failed)?;
            Pump::start().context("start to carry its streams").map_err(failed)?.take(pid, streams, reaper)
        }
    };
    let mut events = [0; 1024];
    loop {
        let ended = tokio::select! {
            () = process.ended() => true,
            _ = appears.read(&mut events) => false,
        };
        if let Some(pid) = fs::read_to_string(PID_FILE).ok().and_then(|text| text.trim().parse().ok()) {
            // Podman removes the container's own cgroup with it; what was counted there is counted above it too.
            return Ok((pid, process.first_of(cgroup::CONTAINER.into())));
        }
        if ended {
            let (code, complaint) = process.complaint().await;
            return Err(Refusal::new(code, format!("podman: {}", complaint.trim_start_matches("Error: "))));
        }
    }
}

/// How large a container's terminal is; none: it has none.
fn terminal(oci: &Value) -> Option<TerminalSize> {
    let size = |name: &str| oci["process"]["consoleSize"][name].as_u64().and_then(|size| size.try_into().ok());
    let size = TerminalSize { rows: size("height").unwrap_or(0), columns: size("width").unwrap_or(0) };
    (oci["process"]["terminal"] == true).then_some(size)
}

/// Podman with a terminal that is its own: of another's size it would not hear.
fn at_terminal(oci: &Value, health: Option<&Health>, size: TerminalSize) -> Exec {
    Exec {
        command: [PODMAN.to_owned()].into_iter().chain(arguments(oci, health)).collect(),
        place: Place::System,
        env: Vec::new(),
        workdir: None,
        user: None,
        privileged: false,
        interactive: true,
        detach: false,
        terminal: Some(size),
    }
}

/// Watches for the number of the container's first process.
fn watch() -> Result<pipe::Receiver> {
    let _ = fs::remove_dir_all(STARTED);
    fs::create_dir_all(STARTED)?;
    let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&events, STARTED, inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE)?;
    Ok(pipe::Receiver::from_file_unchecked(events.into())?)
}

fn podman(oci: &Value, health: Option<&Health>) -> Command {
    let mut command = Command::new(PODMAN);
    command.args(arguments(oci, health)).env_clear();
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    command
}

/// The flags that mean what a configuration says. Streams that are no terminal are handed through, so that neither conmon
/// nor Podman copies them; the files of `/etc` are ours.
fn arguments(oci: &Value, health: Option<&Health>) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut flags = Flags(vec!["run".to_owned()]);
    for flag in ["--network=host", "--no-hosts", "--http-proxy=false", "--interactive", "--replace"] {
        flags.bare(flag);
    }
    match terminal(oci) {
        None => flags.bare("--log-driver=passthrough"),
        Some(_) => ["--log-driver=none", "--tty", "--detach-keys="].into_iter().for_each(|flag| flags.bare(flag)),
    }
    flags.with("--name", NAME);
    flags.with("--pidfile", PID_FILE);
    // The only one there: other containers of Podman are elsewhere.
    flags.with("--cgroup-parent", "/container");
    flags.with("--security-opt", "seccomp=unconfined");
    flags.with("--hostname", text(&oci["hostname"]));
    process(&mut flags, &oci["process"]);
    limits(&mut flags, &oci["linux"]["resources"]);
    if let Some(health) = health {
        health_check(&mut flags, health);
    }
    match oci["linux"]["maskedPaths"].is_null() {
        true => flags.bare("--privileged"),
        false => capabilities(&mut flags, &oci["process"]["capabilities"]["bounding"]),
    }
    if oci["root"]["readonly"] == true {
        // The places that stay writable are among the mounts.
        flags.bare("--read-only");
        flags.bare("--read-only-tmpfs=false");
    }
    list(&oci["mounts"]).for_each(|mount| self::mount(&mut flags, mount));
    flags.bare("--rootfs");
    flags.bare(text(&oci["root"]["path"]));
    list(&oci["process"]["args"]).for_each(|arg| flags.bare(text(arg)));
    flags.0
}

/// Arguments of a command line.
struct Flags(Vec<String>);

impl Flags {
    fn bare(&mut self, word: impl Into<String>) {
        self.0.push(word.into());
    }

    fn with(&mut self, flag: &str, value: impl std::fmt::Display) {
        self.0.push(format!("{flag}={value}"));
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn process(flags: &mut Flags, process: &Value) {
    let user = &process["user"];
    flags.with("--user", format!("{}:{}", user["uid"], user["gid"]));
    list(&user["additionalGids"]).for_each(|gid| flags.with("--group-add", gid));
    flags.with("--workdir", process["cwd"].as_str().unwrap_or("/"));
    list(&process["env"]).filter_map(Value::as_str).for_each(|variable| flags.with("--env", variable));
    for limit in list(&process["rlimits"]) {
        let name = limit["type"].as_str().unwrap_or_default().trim_start_matches("RLIMIT_").to_ascii_lowercase();
        flags.with("--ulimit", format!("{name}={}:{}", limit["soft"], limit["hard"]));
    }
}

fn capabilities(flags: &mut Flags, bounding: &Value) {
    flags.with("--cap-drop", "all");
    list(bounding).filter_map(Value::as_str).for_each(|name| flags.with("--cap-add", name));
}

fn limits(flags: &mut Flags, resources: &Value) {
    if let Some(bytes) = resources["memory"]["limit"].as_u64() {
        flags.with("--memory", bytes);
    }
    if let (Some(period), Some(quota)) = (resources["cpu"]["period"].as_u64(), resources["cpu"]["quota"].as_u64()) {
        flags.with("--cpu-period", period);
        flags.with("--cpu-quota", quota);
    }
}

/// Asked by the host's owner, not by a timer.
fn health_check(flags: &mut Flags, health: &Health) {
    flags.with("--health-cmd", Value::from(health.command.clone()));
    flags.with("--health-interval", "disable");
    flags.with("--health-retries", health.retries);
    flags.with("--health-start-period", format!("{}s", health.start_period_s));
    flags.with("--health-timeout", format!("{}s", health.timeout_s));
}

/// What of the mounts Podman does not make by itself: bound files and directories, and file systems in memory.
fn mount(flags: &mut Flags, mount: &Value) {
    let text = |name: &str| mount[name].as_str().unwrap_or_default();
    let options: Vec<&str> = list(&mount["options"]).filter_map(Value::as_str).collect();
    let destination = text("destination");
    match text("type") {
        "bind" => {
            let options: Vec<&str> = options.iter().copied().filter(|option| *option != "bind").collect();
            flags.with("--volume", format!("{}:{destination}:{}", text("source"), options.join(",")));
        }
        "tmpfs" if !matches!(destination, "/dev" | "/dev/shm") => {
            flags.with("--tmpfs", format!("{destination}:{}", options.join(",")));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn configuration() -> Value {
        json!({
            "hostname": "web",
            "process": {
                "args": ["ls", "-l"], "env": ["A=1", "B=x y"], "cwd": "/srv",
                "user": { "uid": 5, "gid": 6, "additionalGids": [7] },
                "capabilities": { "bounding": ["CAP_KILL"] },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 2 }],
            },
            "root": { "path": "/run/fcvm/rootfs", "readonly": false },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc", "options": [] },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"] },
                { "destination": "/etc/hosts", "type": "bind", "source": "/run/fcvm/hosts", "options": ["bind", "ro"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"] },
            ],
            "linux": { "resources": { "memory": { "limit": 9 } }, "maskedPaths": [] },
        })
    }

    #[test]
    fn a_configuration_becomes_flags_and_the_command_stays_last() {
        let health = Health { command: vec!["a".into(), "b c".into()], retries: 3, start_period_s: 9, timeout_s: 5 };
        let line = arguments(&configuration(), Some(&health));
        for expected in [
            "--hostname=web",
            "--user=5:6",
            "--group-add=7",
            "--cgroup-parent=/container",
            "--workdir=/srv",
            "--env=B=x y",
            "--ulimit=nofile=1:2",
            "--cap-drop=all",
            "--cap-add=CAP_KILL",
            "--memory=9",
            "--volume=/run/fcvm/hosts:/etc/hosts:ro",
            "--tmpfs=/tmp:nosuid,size=1m",
            "--health-cmd=[\"a\",\"b c\"]",
            "--health-start-period=9s",
        ] {
            assert!(line.iter().any(|word| word == expected), "{expected} is not in {line:?}");
        }
        assert!(!line.iter().any(|word| word.contains("/proc") || word.contains("/dev")));
        assert_eq!(line[line.len() - 4..], ["--rootfs", "/run/fcvm/rootfs", "ls", "-l"]);
    }

    #[test]
    fn a_terminal_is_copied_and_other_streams_are_handed_through() {
        let mut configuration = configuration();
        assert!(arguments(&configuration, None).contains(&"--log-driver=passthrough".to_owned()));
        configuration["process"]["terminal"] = true.into();
        configuration["process"]["consoleSize"] = json!({ "height": 24, "width": 80 });
        assert_eq!(terminal(&configuration), Some(TerminalSize { rows: 24, columns: 80 }));
        let line = arguments(&configuration, None);
        assert!(line.contains(&"--tty".to_owned()) && !line.contains(&"--log-driver=passthrough".to_owned()));
    }

    #[test]
    fn what_masks_nothing_is_privileged() {
        let mut configuration = configuration();
        configuration["linux"] = json!({});
        let line = arguments(&configuration, None);
        assert!(line.contains(&"--privileged".to_owned()) && !line.contains(&"--cap-drop=all".to_owned()));
    }
}
