//! The owner's side of a jail: start, order, reports.

use super::handover::{Failure, Goal, Order, Report, send_order};
use super::{Entrance, Error, Isolation, Jail};
use crate::process::Child;
use rustix::process::Pid;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A jail is made in milliseconds; a file system of the host that hangs must not hang the owner.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that runs in its jail.
#[derive(Debug)]
pub struct Spawned {
    /// Its process. Dropping it kills the program.
    pub child: Child,
    /// What isolation was achieved.
    pub isolation: Isolation,
}

/// Makes a jail and executes its program there. Returns when the program has been executed.
///
/// The program is killed when the calling **thread** ends (that is how Linux's parent-death signal works), so this is
/// called on a thread that lives as long as the program may. It blocks for some milliseconds.
pub fn spawn(jail: Jail, entrance: &Entrance) -> Result<Spawned, Error> {
    let mut jail = jail;
    let output = Output { stdout: take(&mut jail.stdout), stderr: take(&mut jail.stderr) };
    let program = jail.program.clone();
    let (order, descriptors) = Order::of(jail);
    let outcome = make(&order, descriptors, output, entrance)?;
    let isolation = outcome.isolated(program)?;
    let child = outcome.child.ok_or(Error::Silent)?;
    Ok(Spawned { child, isolation })
}

/// Makes a jail as [`spawn`] would, executes nothing, and says what isolation this host gives.
pub fn probe(entrance: &Entrance) -> Result<Isolation, Error> {
    let (order, descriptors) = Order::of(Jail::new("/"));
    let order = Order { goal: Goal::Report, ..order };
    let output = Output { stdout: Stdio::null(), stderr: Stdio::null() };
    make(&order, descriptors, output, entrance)?.isolated(PathBuf::new())
}

struct Output {
    stdout: Stdio,
    stderr: Stdio,
}

fn take(stdio: &mut Stdio) -> Stdio {
    std::mem::replace(stdio, Stdio::null())
}

fn make(order: &Order, descriptors: Vec<OwnedFd>, output: Output, entrance: &Entrance) -> Result<Outcome, Error> {
    let (control, theirs) = UnixStream::pair().map_err(Error::Control)?;
    control.set_read_timeout(Some(PATIENCE)).map_err(Error::Control)?;
    control.set_write_timeout(Some(PATIENCE)).map_err(Error::Control)?;
    let mut messenger = Command::new(&entrance.executable)
        .args(&entrance.arguments)
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(output.stdout)
        .stderr(output.stderr)
        .spawn()
        .map_err(|source| Error::Start { executable: entrance.executable.clone(), source })?;
    let outcome = send_order(&control, order, &descriptors).and_then(|()| Outcome::read(&control));
    if outcome.is_err() {
        let _it_may_have_ended = messenger.kill();
    }
    messenger.wait().map_err(Error::Control)?;
    outcome.map_err(Error::Control)
}

/// All that was reported until the control socket closed.
#[derive(Debug, Default)]
struct Outcome {
    child: Option<Child>,
    isolation: Option<Isolation>,
    failure: Option<Failure>,
    not_executed: Option<i32>,
}

impl Outcome {
    fn read(control: &UnixStream) -> io::Result<Self> {
        let mut outcome = Self::default();
        let mut lines = BufReader::new(control);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            match serde_json::from_str(&line)? {
                Report::Started(pid) => outcome.child = Pid::from_raw(pid).map(Child::adopt).transpose()?,
                Report::Isolated(isolation) => outcome.isolation = Some(isolation),
                Report::Failed(failure) => outcome.failure = Some(failure),
                Report::NotExecuted { errno } => outcome.not_executed = Some(errno),
            }
            line.clear();
        }
        Ok(outcome)
    }

    fn isolated(&self, program: PathBuf) -> Result<Isolation, Error> {
        if let Some(Failure { step, errno }) = &self.failure {
            return Err(Error::Step { step: step.clone(), source: io::Error::from_raw_os_error(*errno) });
        }
        if let Some(errno) = self.not_executed {
            return Err(Error::Execute { program, source: io::Error::from_raw_os_error(errno) });
        }
        self.isolation.clone().ok_or(Error::Silent)
    }
}
