//! A jail: namespaces in which one program runs with nothing of the host but what was handed to it.
//!
//! ```text
//! owner ── spawn ──► messenger ── clone(CLONE_PARENT) ──► program
//!   │                (this executable again: `enter`)       (PID 1 of its namespaces, a child of the owner)
//!   │                 user, mount, pid, ipc, uts,            private root, no capabilities, no descriptors
//!   │                 net and cgroup namespaces; ends        but its own, dies with the owner
//!   └────────────────── control socket: order in, reports out, closed by a successful exec
//! ```
//!
//! Namespaces want a process with one thread, hence the second start of the executable. The messenger ends as soon as
//! the program's process exists, so a jail costs no process but the program. What runs inside is not known here. It may
//! also be this executable, which executes nothing and needs nothing to be visible ([`Role::FileServer`]).

mod enter;
mod handover;
mod identity;
mod nodes;
mod owner;
mod room;
mod spawn;

pub use enter::enter;
pub use spawn::{Spawned, probe, spawn};

use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::Stdio;

/// The number of the first descriptor of [`Jail::descriptors`] in the program.
pub const FIRST_DESCRIPTOR: RawFd = 3;

/// The user and group that the program sees itself as.
pub const INSIDE_ID: u32 = 1000;

/// The user and group that a program started by root runs as outside, unless others are given: `nobody`.
pub const NOBODY: u32 = 65534;

/// The first of the users that [`one_user`] makes: numbers that no host gives to anyone, and no container is mapped to.
const FIRST_OWN_USER: u32 = 0x7000_0000;

/// Returns a user of whom there is no other program while this process lives: its own number makes it.
pub fn one_user() -> u32 {
    FIRST_OWN_USER + std::process::id()
}

/// A program and all that it may see.
#[derive(Debug)]
pub struct Jail {
    /// What becomes of its process.
    pub role: Role,
    /// The program, as a path inside.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Files and directories of the host that are visible inside.
    pub binds: Vec<Bind>,
    /// Device nodes beyond `null`, `zero`, `full`, `random` and `urandom`.
    pub devices: Vec<Device>,
    /// A directory in memory that it may write.
    pub workspace: Option<Workspace>,
    /// What it reaches by network.
    pub network: Network,
    /// The user outside, if root starts it. Anyone else's program runs as that user.
    pub user: u32,
    /// The group outside, likewise.
    pub group: u32,
    /// Resource limits.
    pub limits: Vec<(Limit, u64)>,
    /// Directories of cgroups of the host, in which it is from its beginning.
    pub cgroups: Vec<PathBuf>,
    /// What it inherits: the first is descriptor [`FIRST_DESCRIPTOR`], the others follow.
    pub descriptors: Vec<OwnedFd>,
    /// Its standard output. Its standard input is `/dev/null`.
    pub stdout: Stdio,
    /// Its standard error.
    pub stderr: Stdio,
}

impl Jail {
    /// Makes a jail for a program that sees nothing at all, not even itself: binds are to be added.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            role: Role::Program,
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            binds: Vec::new(),
            devices: Vec::new(),
            workspace: None,
            network: Network::Empty,
            user: NOBODY,
            group: NOBODY,
            limits: vec![(Limit::CoreSize, 0)],
            cgroups: Vec::new(),
            descriptors: Vec::new(),
            stdout: Stdio::null(),
            stderr: Stdio::null(),
        }
    }

    /// Makes a jail in which this executable itself goes on, to serve the files of its binds.
    pub fn of_file_server(devices: DeviceNodes) -> Self {
        Self { role: Role::FileServer(devices), ..Self::new("/") }
    }
}

/// What becomes of the process in a jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It executes a program, which has no privilege.
    Program,
    /// It goes on with what [`enter`] was given to do. Started by root it is root, with the capabilities that it takes
    /// to act on files as their owners; started by a user it is that user, and root to itself.
    FileServer(DeviceNodes),
}

/// Whether a file server can make device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceNodes {
    /// Only root's, and in a volume that asks for it.
    Made,
    /// Never.
    Refused,
}

/// Something of the host that is visible inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The file or directory of the host; symbolic links are followed.
    pub(crate) from: OsString,
    /// Where it is inside: an absolute path without `..`.
    pub(crate) to: OsString,
    pub(crate) access: Access,
}

impl Bind {
    /// Shows a path of the host at the same path inside, to be read only.
    pub fn read_only(path: impl Into<OsString>) -> Self {
        let path = path.into();
        Self { from: path.clone(), to: path, access: Access::ReadOnly }
    }

    /// Shows a path of the host at another path inside.
    pub fn new(from: impl Into<OsString>, to: impl Into<OsString>, access: Access) -> Self {
        Self { from: from.into(), to: to.into(), access }
    }
}

/// Whether a bind may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Never.
    ReadOnly,
    /// As the file's own permissions say.
    ReadWrite,
}

/// A directory in memory that a program may write; its owner reaches it below `/proc/PID/root`. It ends with the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    /// Where it is inside: an absolute path without `..`.
    pub at: PathBuf,
    /// The most that is in it, bytes.
    pub size: u64,
    /// What is in it from the beginning. Only the program's user can make anything in it, not even root can.
    pub entries: Vec<Entry>,
}

/// A name in a workspace for a descriptor that the program inherits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// Which of [`Jail::descriptors`].
    pub descriptor: usize,
    /// What the name is.
    pub kind: EntryKind,
}

/// What a name in a workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A link to the open file.
    File,
    /// The address of the socket, which has none yet; it listens from then on.
    Listener,
}

/// A device node that a program may ask for. Root's programs get one of their user's own, or where that cannot be made the
/// host's, with its group as their only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// `/dev/kvm`.
    Kvm,
    /// `/dev/userfaultfd`: a program that has it lets another one fill its memory.
    Userfaultfd,
}

/// What a program reaches by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Nothing: an empty namespace.
    Empty,
    /// What the host reaches.
    Host,
}

/// A resource that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Size of core dumps, bytes.
    CoreSize,
    /// Highest descriptor number, plus one.
    Descriptors,
    /// Size of files that it writes, bytes.
    FileSize,
    /// Memory that it locks, bytes.
    LockedMemory,
}

/// How this executable is started so that it calls [`enter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// The executable; `/proc/self/exe` is this one.
    pub executable: PathBuf,
    /// Its arguments: whatever makes its `main` call [`enter`] before anything else.
    pub arguments: Vec<OsString>,
}

/// What isolation was achieved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces of every kind.
    Full,
    /// All but a user namespace: root made the others and the program is an unprivileged user.
    WithoutUserNamespace {
        /// Why there is no user namespace.
        reason: String,
    },
    /// No namespaces: the program sees the host's files, processes and network as its user does. It still has no
    /// privileges to gain, no descriptors and no environment, and dies with its owner.
    ProcessOnly {
        /// Why there are no namespaces.
        reason: String,
    },
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Isolation::Full => write!(f, "namespaces of its own, a user namespace among them"),
            Isolation::WithoutUserNamespace { reason } => {
                write!(f, "namespaces of its own, but no user namespace ({reason})")
            }
            Isolation::ProcessOnly { reason } => write!(f, "no namespaces ({reason})"),
        }
    }
}

/// How making a jail fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The executable could not be started a second time.
    #[error("cannot start {executable} to make a jail")]
    Start {
        /// The executable.
        executable: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The order or the reports did not cross the control socket.
    #[error("cannot talk to the process that makes the jail")]
    Control(#[source] io::Error),
    /// The process that makes the jail ended without a word.
    #[error("the process that makes the jail ended without a word")]
    Silent,
    /// A step of making the jail failed.
    #[error("cannot {step} for the jail")]
    Step {
        /// The step, as a verb and its object.
        step: String,
        /// Why.
        source: io::Error,
    },
    /// The jail was made, but the program could not be executed in it.
    #[error("cannot execute {program} in the jail")]
    Execute {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}
