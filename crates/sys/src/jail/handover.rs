//! What the owner and the inside of a jail tell each other over the control socket.
//!
//! Down: four bytes of length (native order) with the descriptors beside them, then the order as JSON. Up: reports, one
//! JSON line each, until the exec closes the socket. Both ends are the same executable, so there are no versions.

use super::{Bind, Device, Isolation, Jail, Limit, Network, Role, Workspace};
use crate::descriptor;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// An order is a few kilobytes; more than this is no order.
const LONGEST_ORDER: usize = 1 << 20;

/// A [`Jail`] without what has to cross the socket as a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// The process that the program must not outlive.
    pub(super) owner: i32,
    pub(super) role: Role,
    pub(super) goal: Goal,
    pub(super) binds: Vec<Bind>,
    pub(super) devices: Vec<Device>,
    pub(super) workspace: Option<Workspace>,
    pub(super) network: Network,
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) limits: Vec<(Limit, u64)>,
    pub(super) cgroups: Vec<PathBuf>,
}

/// What is done in the jail once it stands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Goal {
    /// The program is executed.
    Execute(Program),
    /// This executable goes on.
    Serve,
    /// Nothing: only the report was wanted.
    Report,
}

/// What is executed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) path: OsString,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
}

impl Order {
    /// Splits a jail into its order and its descriptors.
    pub(super) fn of(jail: Jail) -> (Self, Vec<OwnedFd>) {
        let program =
            Program { path: jail.program.into_os_string(), arguments: jail.arguments, environment: jail.environment };
        let order = Self {
            owner: std::process::id().cast_signed(),
            role: jail.role,
            goal: match jail.role {
                Role::Program => Goal::Execute(program),
                Role::FileServer(_) => Goal::Serve,
            },
            binds: jail.binds,
            devices: jail.devices,
            workspace: jail.workspace,
            network: jail.network,
            user: jail.user,
            group: jail.group,
            limits: jail.limits,
            cgroups: jail.cgroups,
        };
        (order, jail.descriptors)
    }
}

/// What the inside tells the owner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The program's process exists: a child of the owner.
    Started(i32),
    /// The jail stands.
    Isolated(Isolation),
    /// A step failed; the last report.
    Failed(Failure),
    /// The exec failed; the last report.
    NotExecuted {
        /// The error number.
        errno: i32,
    },
}

/// A step that failed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    /// A verb and its object.
    pub(super) step: String,
    /// The error number.
    pub(super) errno: i32,
}

impl Failure {
    /// Names the step that an error belongs to.
    pub(super) fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Self { step: step.into(), errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// Sends an order and its descriptors.
pub(super) fn send_order(mut socket: &UnixStream, order: &Order, descriptors: &[OwnedFd]) -> io::Result<()> {
    let text = serde_json::to_vec(order)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_ne_bytes();
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let sent = descriptor::send(socket, &length, &borrowed)?;
    // The descriptors went with the first byte.
    socket.write_all(&length[sent..])?;
    socket.write_all(&text)
}

/// Receives an order and its descriptors.
pub(super) fn receive_order(mut socket: &UnixStream) -> io::Result<(Order, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let (received, descriptors) = descriptor::receive(socket, &mut length)?;
    if received == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    socket.read_exact(&mut length[received..])?;
    let length = usize::try_from(u32::from_ne_bytes(length)).map_err(io::Error::other)?;
    if length > LONGEST_ORDER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = vec![0; length];
    socket.read_exact(&mut text)?;
    Ok((serde_json::from_slice(&text)?, descriptors))
}

/// Sends a report. An owner that is gone needs none.
pub(super) fn report(mut socket: &UnixStream, report: &Report) {
    if let Ok(mut line) = serde_json::to_vec(report) {
        line.push(b'\n');
        let _owner_is_gone = socket.write_all(&line);
    }
}
