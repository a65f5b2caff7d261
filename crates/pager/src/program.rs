//! The server as a program: in a jail, with nothing but the snapshot's files and a socket.
//!
//! ```text
//! descriptor 3   the order, JSON      4   the socket, listening      5   the memory      6   the pages, if there are any
//! ```
//! Both ends are the same executable, so there are no versions.

use crate::backing::Backing;
use crate::contents::Overlay;
use crate::filter::confine;
use crate::server::{MOST_CLONES, serve};
use fcvm_sys::descriptor::take_inherited;
use fcvm_sys::jail::{self, Bind, Entrance, FIRST_DESCRIPTOR, Jail, Limit, Spawned};
use fcvm_sys::memfd;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Descriptors of each machine: connection, userfaultfd, pidfd. Beside them are the server's own.
const DESCRIPTORS: u64 = 3 * MOST_CLONES as u64 + 64;

/// Where the host keeps the libraries of programs.
const SYSTEM: [&str; 4] = ["/usr", "/lib", "/lib64", "/etc/ld.so.cache"];

/// What is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Pages that take the place of those in the memory file.
    pub overlays: Vec<Overlay>,
    /// Which parts machines use at once: first page and number of each.
    pub working_set: Vec<(u64, u64)>,
}

/// The files of what is served.
#[derive(Debug)]
pub struct Files {
    /// The memory.
    pub memory: File,
    /// The pages that take the place of some.
    pub pages: Option<File>,
    /// The socket by which machines are handed over.
    pub listener: UnixListener,
}

/// How the server is started: an executable that calls [`enter`] when it is given these arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable, which is this one.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Starts a server in a jail of its own; it ends with the calling thread. What it says goes to this process's standard
/// error.
pub fn start(program: &Program, order: &Order, files: Files, entrance: &Entrance) -> Result<Spawned, jail::Error> {
    let order = written(order).map_err(jail::Error::Control)?;
    let Files { memory, pages, listener } = files;
    let mut descriptors: Vec<OwnedFd> = vec![order.into(), listener.into(), memory.into()];
    descriptors.extend(pages.map(OwnedFd::from));
    // It is this executable, wherever that is.
    let executable = program.executable.canonicalize().unwrap_or_else(|_| program.executable.clone());
    let system = SYSTEM.into_iter().map(Path::new).filter(|path| path.exists());
    let jail = Jail {
        arguments: program.arguments.clone(),
        binds: system.chain([executable.as_path()]).map(Bind::read_only).collect(),
        limits: vec![(Limit::CoreSize, 0), (Limit::Descriptors, DESCRIPTORS)],
        descriptors,
        stderr: Stdio::inherit(),
        ..Jail::new(&executable)
    };
    jail::spawn(jail, entrance)
}

fn written(order: &Order) -> io::Result<File> {
    let mut file = File::from(memfd::growing("order")?);
    file.write_all(&serde_json::to_vec(order)?)?;
    file.rewind()?;
    Ok(file)
}

/// Is the server: returns when it cannot go on. All that it needs is open before the first machine can say a word, and from
/// then on it makes no system call but those that serving takes.
pub fn enter() -> io::Result<()> {
    let take = |number: i32| take_inherited(FIRST_DESCRIPTOR + number);
    let order: Order = serde_json::from_reader(io::BufReader::new(File::from(take(0)?)))?;
    let listener = UnixListener::from(take(1)?);
    let memory = File::from(take(2)?);
    let pages = if order.overlays.is_empty() { None } else { Some(File::from(take(3)?)) };
    let backing = Backing::open(&order, memory, pages)?;
    confine().map_err(io::Error::other)?;
    serve(&listener, &backing)
}
