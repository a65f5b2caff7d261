//! The helper that enters the container for one command: a program of its own with a single thread, since only such a
//! one may change its namespaces and identity piece by piece.
//!
//! ```text
//! agent ──starts──► helper ──joins, clones a sibling──► command (the agent's child, in the container)
//!                      └─ says the command's number and ends
//! ```

use crate::container::Container;
use crate::{cgroup, user};
use fcvm_proto::message::{Exec, TerminalSize};
use fcvm_sys::descriptor::take_inherited;
use fcvm_sys::guest::{Cloned, clone_sibling};
use rustix::thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The argument that makes the agent's program this helper; two descriptors' numbers follow.
pub(crate) const ARGUMENT: &str = "join";

/// What the helper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    command: Vec<String>,
    env: Vec<String>,
    workdir: String,
    user: String,
    /// Where its standard streams come from.
    streams: Streams,
    /// They are a terminal of this size, which controls the command's session.
    terminal: Option<TerminalSize>,
    /// The container to enter; none: the guest system.
    container: Option<Target>,
}

/// What of the helper's standard streams the command keeps.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Streams {
    /// All of them.
    Carried,
    /// Its output; it reads from `/dev/null`.
    OutputOnly,
    /// None: the command is detached.
    Null,
}

/// The container's side of it.
#[derive(Debug, Serialize, Deserialize)]
struct Target {
    pid: i32,
    cgroup: Option<PathBuf>,
    /// Names with their `CAP_` prefix; none: all.
    capabilities: Option<Vec<String>>,
    no_new_privileges: bool,
}

/// What the helper and the command say before the command is executed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The command's number as the agent sees it; 0 if there was none.
    pub(crate) pid: i32,
    pub(crate) failure: Option<Failure>,
}

/// Why a command does not run, as an exit code and in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) reason: String,
}

impl Failure {
    fn new(step: &str, error: impl std::fmt::Display) -> Self {
        Self { code: 125, reason: format!("{step}: {error}") }
    }
}

impl Report {
    /// Nothing or a failure as JSON, then four bytes of the number: the helper waits for the command's program.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (rest, pid) = bytes.split_last_chunk()?;
        let failure = if rest.is_empty() { None } else { Some(serde_json::from_slice(rest).ok()?) };
        Some(Self { pid: i32::from_le_bytes(*pid), failure })
    }
}

impl Request {
    /// Lays a command over what the container says of its processes.
    pub(crate) fn new(exec: &Exec, container: Option<&Container>) -> Self {
        const SYSTEM: [&str; 3] =
            ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"];
        let mut env = container.map_or_else(|| SYSTEM.map(str::to_owned).to_vec(), |container| container.env.clone());
        env.extend(exec.env.iter().cloned());
        let workdir = exec.workdir.clone().or_else(|| container.map(|container| container.workdir.clone()));
        let user = exec.user.clone().or_else(|| container.map(|container| container.user.clone()));
        Self {
            command: exec.command.clone(),
            env,
            workdir: workdir.unwrap_or_else(|| "/".to_owned()),
            user: user.unwrap_or_default(),
            streams: match (exec.terminal, exec.detach, exec.interactive) {
                (Some(_), ..) => Streams::Carried,
                (None, true, _) => Streams::Null,
                (None, false, true) => Streams::Carried,
                (None, false, false) => Streams::OutputOnly,
            },
            terminal: exec.terminal,
            container: container.map(|container| Target {
                pid: container.pid,
                cgroup: cgroup::of(container.pid),
                capabilities: (!exec.privileged).then(|| container.capabilities.clone()),
                no_new_privileges: container.no_new_privileges,
            }),
        }
    }

    /// The root in which the command's terminal is made, and its size; none: it has none.
    pub(crate) fn terminal(&self) -> Option<(PathBuf, TerminalSize)> {
        let root = match &self.container {
            Some(target) => format!("/proc/{}/root", target.pid),
            None => "/".to_owned(),
        };
        self.terminal.map(|size| (root.into(), size))
    }
}

/// The helper's `main`.
pub(crate) fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(2).map(|text| text.parse().unwrap_or(-1));
    let mut take = || take_inherited(numbers.next().unwrap_or(-1)).map(File::from);
    let (Ok(request), Ok(mut status)) = (take(), take()) else { return ExitCode::FAILURE };
    let said = match clone_into(request) {
        Ok((Cloned::Parent(pid), _)) => status.write_all(&pid.to_le_bytes()),
        Ok((Cloned::Child, request)) => {
            let failure = become_command(&request);
            say(&mut status, &failure)
        }
        Err(failure) => say(&mut status, &failure).and_then(|()| status.write_all(&0_i32.to_le_bytes())),
    };
    if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(status: &mut File, failure: &Failure) -> io::Result<()> {
    status.write_all(&serde_json::to_vec(failure)?)
}

/// Enters the container and clones the process that becomes the command.
fn clone_into(mut request: File) -> Result<(Cloned, Request), Failure> {
    let mut bytes = Vec::new();
    request.read_to_end(&mut bytes).map_err(|error| Failure::new("read the request", error))?;
    let request: Request = serde_json::from_slice(&bytes).map_err(|error| Failure::new("decode the request", error))?;
    let cgroup = request.container.as_ref().and_then(|target| target.cgroup.as_ref());
    // Opened while it can be seen. Being made in a cgroup costs nothing, moving there stops every processor.
    let cgroup = cgroup.map(File::open).transpose().map_err(|error| Failure::new("find the cgroup", error))?;
    if let Some(target) = &request.container {
        enter(target)?;
    }
    let cloned = clone_sibling(cgroup.as_ref().map(File::as_fd)).map_err(|error| Failure::new("clone", error))?;
    Ok((cloned, request))
}

fn enter(target: &Target) -> Result<(), Failure> {
    let pidfd = open_process(target.pid).map_err(|error| Failure::new("find the container", error))?;
    let spaces = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(pidfd.as_fd(), spaces)
        .map_err(|error| Failure::new("join the container", error))
}

fn open_process(pid: i32) -> io::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Takes on the command's identity and executes it; returns only if that failed.
fn become_command(request: &Request) -> Failure {
    match prepare(request) {
        Ok(mut command) => {
            let error = command.exec();
            let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            Failure { code, reason: format!("exec {}: {error}", request.command[0]) }
        }
        Err(failure) => failure,
    }
}

fn prepare(request: &Request) -> Result<Command, Failure> {
    let step = |step: &'static str| move |error: rustix::io::Errno| Failure::new(step, error);
    rustix::process::setsid().map_err(step("begin a session"))?;
    let root = Path::new("/");
    let identity =
        user::resolve(root, &request.user).map_err(|error| Failure { code: 126, reason: error.to_string() })?;
    if request.terminal.is_some() {
        take_terminal(identity.uid).map_err(step("take the terminal"))?;
    }
    rustix::process::chdir(&request.workdir).map_err(|error| {
        let code = if error == rustix::io::Errno::NOENT { 127 } else { 126 };
        Failure { code, reason: format!("chdir to {}: {error}", request.workdir) }
    })?;
    let mut env = request.env.clone();
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    let Some(name) = request.command.first() else {
        return Err(Failure { code: 125, reason: "no command was given".to_owned() });
    };
    let program = find_program(name, &env)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    take_identity(&identity, request.container.as_ref())?;
    let mut command = Command::new(program);
    command.arg0(name).args(&request.command[1..]).env_clear();
    command.envs(env.iter().filter_map(|variable| variable.split_once('=')));
    match request.streams {
        Streams::Carried => &mut command,
        Streams::OutputOnly => command.stdin(Stdio::null()),
        Streams::Null => command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()),
    };
    Ok(command)
}

/// Makes the terminal that is all of the standard streams the session's own, and the user's.
fn take_terminal(uid: u32) -> rustix::io::Result<()> {
    let terminal = rustix::stdio::stdin();
    rustix::process::ioctl_tiocsctty(terminal)?;
    rustix::fs::fchown(terminal, Some(rustix::process::Uid::from_raw(uid)), None)
}

fn take_identity(identity: &user::Identity, target: Option<&Target>) -> Result<(), Failure> {
    let step = |step: &'static str| move |error: rustix::io::Errno| Failure::new(step, error);
    let wanted = target.and_then(|target| target.capabilities.as_ref()).map(|names| capabilities(names));
    for capability in CapabilitySet::all().iter().filter(|one| wanted.is_some_and(|wanted| !wanted.contains(*one))) {
        // Kernels without this capability refuse its number.
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let groups: Vec<_> = identity.groups.iter().map(|gid| rustix::process::Gid::from_raw(*gid)).collect();
    let (uid, gid) = (rustix::process::Uid::from_raw(identity.uid), rustix::process::Gid::from_raw(identity.gid));
    rustix::thread::set_thread_groups(&groups).map_err(step("set the groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("set the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("set the user"))?;
    if let Some(wanted) = wanted.filter(|_| identity.uid == 0) {
        let sets = CapabilitySets { effective: wanted, permitted: wanted, inheritable: CapabilitySet::empty() };
        rustix::thread::set_capabilities(None, sets).map_err(step("set the capabilities"))?;
    }
    if target.is_some_and(|target| target.no_new_privileges) {
        rustix::thread::set_no_new_privs(true).map_err(step("give up new privileges"))?;
    }
    Ok(())
}

/// Translates the names of an OCI configuration; those that this build does not know are dropped.
fn capabilities(names: &[String]) -> CapabilitySet {
    let known = |name: &String| CapabilitySet::from_name(name.strip_prefix("CAP_").unwrap_or(name));
    names.iter().filter_map(known).collect()
}

/// Finds a program as `execvp` does, with podman's words where there is none.
pub(crate) fn find_program(name: &str, env: &[String]) -> Result<PathBuf, Failure> {
    find_program_in(Path::new("/"), name, env)
}

/// Finds a program of another root; the result is a path inside it.
pub(crate) fn find_program_in(root: &Path, name: &str, env: &[String]) -> Result<PathBuf, Failure> {
    let executable = |path: &Path| crate::files::executable(root, path);
    let absent = || Failure {
        code: 127,
        reason: format!("executable file `{name}` not found in $PATH: No such file or directory"),
    };
    if name.is_empty() {
        return Err(absent());
    }
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Failure { code: 126, reason: format!("exec {name}: permission denied") })
            }
            Err(_) => Err(Failure { code: 127, reason: format!("exec {name}: no such file or directory") }),
        };
    }
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("/bin:/usr/bin");
    let mut denied = false;
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Err(match denied {
        true => Failure { code: 126, reason: format!("exec {name}: permission denied") },
        false => absent(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_number_and_perhaps_a_failure() {
        let number = 7_i32.to_le_bytes();
        assert_eq!(Report::decode(&number), Some(Report { pid: 7, failure: None }));
        let failure = Failure { code: 127, reason: "no".to_owned() };
        let bytes = [&serde_json::to_vec(&failure).unwrap()[..], &number].concat();
        assert_eq!(Report::decode(&bytes), Some(Report { pid: 7, failure: Some(failure) }));
        assert_eq!(Report::decode(b"abc"), None);
        assert_eq!(Report::decode(b"{abcd"), None);
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        file("a/tool", 0o644);
        file("b/tool", 0o755);
        file("b/data", 0o644);
        let find = |name: &str| find_program_in(root.path(), name, &["PATH=/a:/b".to_owned()]);
        assert_eq!(find("tool"), Ok("/b/tool".into()));
        assert_eq!(find("data").unwrap_err().code, 126);
        assert_eq!(find("none").unwrap_err().code, 127);
        assert_eq!(find("/b/data").unwrap_err().code, 126);
        assert_eq!(find("/b").unwrap_err().code, 126);
        assert_eq!(find("/none").unwrap_err().code, 127);
    }
}
