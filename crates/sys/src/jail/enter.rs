//! The inside of a jail: from the start of this executable to the exec of the program.
//!
//! Two processes run here one after the other: the messenger, which unshares the namespaces, and its child, the
//! program's process, which is the first in the new pid namespace. Both have one thread.

use super::handover::{Failure, Goal, Order, Program, Report, receive_order, report};
use super::nodes;
use super::owner::{Bond, Owner};
use super::{FIRST_DESCRIPTOR, Isolation, Limit, identity, room};
use crate::cgroup::PROCESSES;
use crate::descriptor;
use rustix::process::{Resource, Rlimit};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Descriptors of our own are moved up here, out of the way of those that the program inherits.
const OURS: i32 = FIRST_DESCRIPTOR + descriptor::MOST as i32;

/// What a program sees as the name of its host.
const HOST_NAME: &[u8] = b"fcvm";

/// Makes the jail that is ordered on standard input and executes the program in it.
///
/// `main` calls this before it starts a thread or opens anything, and returns what it returns: it comes back in the
/// messenger, and in the program's process when something failed, which the owner has been told. In a jail of a file
/// server it does what `serve` does with the descriptors of the jail.
pub fn enter(serve: impl FnOnce(Vec<OwnedFd>) -> ExitCode) -> ExitCode {
    match control().and_then(prepare) {
        Ok(Some(descriptors)) => serve(descriptors),
        Ok(None) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A failure that the owner has been told.
struct Reported;

fn control() -> Result<UnixStream, Reported> {
    let socket = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), OURS).map_err(|_| Reported)?;
    Ok(UnixStream::from(socket))
}

/// Returns the descriptors with which this executable goes on, if it does.
fn prepare(control: UnixStream) -> Result<Option<Vec<OwnedFd>>, Reported> {
    let told = |failure| {
        report(&control, &Report::Failed(failure));
        Reported
    };
    let (mut order, descriptors) = receive_order(&control).map_err(Failure::at("receive the order")).map_err(told)?;
    let owner = Owner::bind(order.owner).map_err(told)?;
    // While it has its starter's rights, and before a namespace of cgroups: the groups are the root of that.
    order.cgroups.iter().try_for_each(|group| join(group)).map_err(told)?;
    let dev = nodes::make(&order.devices, order.user);
    let isolation = identity::unshare(&mut order).map_err(told)?;
    if let Some(pid) = identity::fork_sibling().map_err(told)? {
        report(&control, &Report::Started(pid));
        return Ok(None);
    }
    let bond = settle(&order, dev, &descriptors, (owner, &isolation)).map_err(told)?;
    report(&control, &Report::Isolated(isolation));
    match order.goal {
        Goal::Report => Ok(None),
        Goal::Serve => {
            let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
            let silent = null.and_then(|null| rustix::stdio::dup2_stdin(&null));
            silent.map_err(Failure::at("close standard input")).map_err(told)?;
            bond.bind().map_err(told)?;
            // The control socket closes here: that says that it goes on.
            drop((bond, control));
            descriptor::keep_only(descriptors, FIRST_DESCRIPTOR).map(Some).map_err(|_| Reported)
        }
        Goal::Execute(program) => {
            hand_over(descriptors, &bond).map_err(told)?;
            report(&control, &Report::NotExecuted { errno: execute(program) });
            Err(Reported)
        }
    }
}

/// Does all but the exec in the program's process. What is visible comes first, what is allowed last.
fn settle(
    order: &Order,
    dev: Option<OwnedFd>,
    descriptors: &[OwnedFd],
    (owner, isolation): (Owner, &Isolation),
) -> Result<Bond, Failure> {
    let bond = Bond::open(owner, OURS)?;
    bond.bind()?;
    rustix::process::setsid().map_err(Failure::at("begin a session"))?;
    if !matches!(isolation, Isolation::ProcessOnly { .. }) {
        rustix::system::sethostname(HOST_NAME).map_err(Failure::at("set the host name"))?;
        room::furnish(order, dev, descriptors)?;
    }
    for (limit, value) in &order.limits {
        set_limit(*limit, *value)?;
    }
    identity::renounce(order, isolation)?;
    Ok(bond)
}

/// Takes this process into a cgroup, and so those that it forks.
fn join(group: &Path) -> Result<(), Failure> {
    std::fs::write(group.join(PROCESSES), "0").map_err(Failure::at(format!("enter the cgroup {}", group.display())))
}

fn set_limit(limit: Limit, value: u64) -> Result<(), Failure> {
    let resource = match limit {
        Limit::CoreSize => Resource::Core,
        Limit::Descriptors => Resource::Nofile,
        Limit::FileSize => Resource::Fsize,
        Limit::LockedMemory => Resource::Memlock,
    };
    // A limit that is lower already stays.
    let most = rustix::process::getrlimit(resource).maximum.map_or(value, |most| most.min(value));
    let limits = Rlimit { current: Some(most), maximum: Some(most) };
    rustix::process::setrlimit(resource, limits).map_err(Failure::at(format!("limit {limit:?}")))
}

/// Puts the descriptors in their places and binds the program's life to the owner's: the last word, because the change
/// of user and capabilities before it would have undone it.
fn hand_over(descriptors: Vec<OwnedFd>, bond: &Bond) -> Result<(), Failure> {
    debug_assert!(bond.as_raw_fd() >= OURS, "or it would be closed here");
    descriptor::place(descriptors, FIRST_DESCRIPTOR).map_err(Failure::at("place the descriptors"))?;
    bond.bind()
}

/// Executes the program. Returns only if that failed, with the error number.
fn execute(program: Program) -> i32 {
    let error = Command::new(program.path)
        .args(program.arguments)
        .env_clear()
        .envs(program.environment)
        .stdin(Stdio::null())
        .exec();
    error.raw_os_error().unwrap_or(libc::EIO)
}
