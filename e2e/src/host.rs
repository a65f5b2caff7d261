//! A host for one test: a data directory, a loaded image, and the promise that nothing is left at the end.

use crate::fixture;
use crate::program::{Finished, Started};
use crate::traces::{self, Process};
use rustix::process::Pid;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// One test's own host.
#[derive(Debug)]
pub struct Host {
    dir: TempDir,
}

/// A VM that a test started with `-d`.
#[derive(Debug)]
pub struct Run<'h> {
    host: &'h Host,
    /// Its name.
    pub name: String,
}

impl Host {
    /// Makes a host with the busybox image.
    pub fn new() -> Self {
        let host = Self::empty();
        let archive = fixture::busybox_archive(host.dir.path());
        host.fcvm(["load", "-q", "-i", archive.to_str().expect("a temporary path is text")]).ok();
        host
    }

    /// Makes a host with the Debian image.
    pub fn debian() -> Self {
        let host = Self::empty();
        host.fcvm(["load", "-q", "-i", fixture::debian_archive().to_str().expect("a checkout's path is text")]).ok();
        host
    }

    /// Makes a host with no image.
    pub fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("fcvm-e2e-").tempdir().expect("make a data directory");
        fs::create_dir(dir.path().join("data")).expect("make a data directory");
        let host = Self { dir };
        std::os::unix::fs::symlink(set_up(&[]), host.data().join("artifacts")).expect("link the artifacts");
        host
    }

    /// Makes a host with the busybox image whose guests may have Podman.
    pub fn with_podman() -> Self {
        set_up(&["--with", "podman"]);
        Self::new()
    }

    /// A directory of the test's own.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The command line of `fcvm` with the test's data directory.
    pub fn command<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Command {
        let mut command = fcvm(&self.data());
        command.args(args);
        command
    }

    /// Runs `fcvm` to its end.
    pub fn fcvm<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Finished {
        self.fcvm_with(args, Vec::new())
    }

    /// Runs `fcvm` to its end with this on stdin.
    pub fn fcvm_with<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I, stdin: Vec<u8>) -> Finished {
        Started::new(self.command(args), stdin).finish()
    }

    /// Starts a VM in the background: `run -d --name NAME` and these arguments.
    pub fn start(&self, name: &str, args: &[&str]) -> Run<'_> {
        let base = ["run", "-d", "--name", name];
        self.fcvm(base.iter().chain(args)).ok();
        self.vm(name)
    }

    /// A VM that was started in another way.
    pub fn vm(&self, name: &str) -> Run<'_> {
        Run { host: self, name: name.to_owned() }
    }

    /// Asserts that no VM is left, no process and nothing else of one, once `fcvm` has been asked for anything.
    #[track_caller]
    pub fn assert_clean(&self) {
        let listed = self.fcvm(["ps", "-a", "-q"]).ok();
        assert_eq!(listed.text(), "", "VMs are left");
        self.await_silence();
        assert_eq!(traces::left_overs(&self.data()), Vec::<String>::new(), "something is left");
    }

    /// The processes that belong to this host's data directory.
    pub fn processes(&self) -> Vec<Process> {
        traces::processes(&self.data())
    }

    /// The file server of a VM: the child of its owner that is this program once more.
    pub fn file_server(&self, vm: &str) -> Pid {
        let owner = self.fcvm(["inspect", "--format", "{{.Vm.OwnerPid}}", vm]).ok().text();
        let threads = fs::read_dir(format!("/proc/{owner}/task")).expect("the owner runs").flatten();
        let children: String = threads
            .map(|thread| fs::read_to_string(thread.path().join("children")).expect("its thread runs"))
            .collect();
        let is_server =
            |pid: &&str| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.contains("__jail"));
        let server = children.split_whitespace().find(is_server).expect("the owner has a file server");
        Pid::from_raw(server.parse().expect("a number")).expect("a process")
    }

    /// Waits until a process of this host was stopped by a signal, and returns it.
    #[track_caller]
    pub fn await_stopped(&self) -> Process {
        traces::await_stopped(&self.data())
    }

    /// Waits until no process is left; panics if one stays.
    #[track_caller]
    pub fn await_silence(&self) {
        traces::await_silence(&self.data(), &[]);
    }

    /// Waits until no process is left but those of these VMs, and asserts that there are no other VMs.
    #[track_caller]
    pub fn await_only(&self, vms: &[&str]) {
        let pids = |vm: &&str| self.fcvm(["inspect", "--format", "{{.State.Pid}} {{.Vm.MonitorPid}}", vm]).ok().text();
        let pids: Vec<String> = vms.iter().map(pids).collect();
        let pids: Vec<i32> =
            pids.iter().flat_map(|pair| pair.split(' ')).map(|pid| pid.parse().expect("a number")).collect();
        traces::await_silence(&self.data(), &pids);
        let listed = self.fcvm(["ps", "-a", "--format", "{{.Names}}"]).ok().text();
        assert_eq!(listed.lines().collect::<Vec<_>>(), vms);
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Not an assertion: the test may be failing already.
        let left = Started::new(self.command(["ps", "-a", "-q"]), Vec::new()).finish().text();
        for vm in left.lines() {
            Started::new(self.command(["rm", "-f", "-t", "0", vm]), Vec::new()).finish();
        }
    }
}

impl Run<'_> {
    /// Runs a command in the container.
    pub fn exec(&self, command: &[&str]) -> Finished {
        self.host.fcvm(["exec", &self.name].iter().chain(command))
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind a port");
    listener.local_addr().expect("a bound port has an address").port()
}

/// Fetches a page from a published port; returns the whole answer.
pub fn get(port: u16, page: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("the published port answers");
    let request = format!("GET {page} HTTP/1.0\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("the published port answers");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the published port answers");
    answer
}

/// The SHA-256 of bytes in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    fixture::hex(bytes)
}

fn fcvm(data: &Path) -> Command {
    let program = std::env::var_os("FCVM_BIN").expect("FCVM_BIN names the fcvm under test: use `make test`");
    let mut command = Command::new(program);
    // Neither what the developer's own settings file says nor what this shell does.
    command.env_remove("FCVM_LOG").env("FCVM_CONFIG", "/dev/null").env("FCVM_DATA_DIR", data);
    command
}

/// What `fcvm setup` makes, made once for all tests: again only when the programs have changed. What was made before stays.
fn set_up(flags: &[&str]) -> PathBuf {
    // On a host that cannot make them: `make test-firecracker` brings its own.
    if let Some(made) = std::env::var_os("FCVM_TEST_ARTIFACTS") {
        return made.into();
    }
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e");
    fs::create_dir_all(&shared).expect("make the shared directory");
    let lock = File::create(shared.join("lock")).expect("make the shared lock");
    lock.lock().expect("take the shared lock");
    let (stamp, programs) = (shared.join(format!("stamp{}", flags.concat())), programs());
    if fs::read_to_string(&stamp).is_ok_and(|known| known == programs) {
        return shared.join("artifacts");
    }
    let mut setup = fcvm(&shared);
    setup.args(["setup", "--quiet"]).args(flags);
    Started::new(setup, Vec::new()).finish().ok();
    fs::write(&stamp, programs).expect("write the shared stamp");
    shared.join("artifacts")
}

/// The programs under test, each with when it was made.
fn programs() -> String {
    let program = |variable: &str| {
        let path = std::env::var_os(variable)?;
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        Some(format!("{} {modified:?}\n", Path::new(&path).display()))
    };
    ["FCVM_BIN", "FCVM_AGENT_BIN"].into_iter().filter_map(program).collect()
}
