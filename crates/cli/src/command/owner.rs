//! The owner of a VM in the background: this program once more, in a session of its own.
//!
//! It hears what to run on standard input (the environment in it is secret, so it is on no command line), says on standard
//! output how the start went, and lives as long as the VM. Until that is said it dies with the client: nobody would know of
//! its VM.

use super::block_on;
use crate::error::Failure;
use crate::ui::progress::{Display, Show};
use crate::{settings, stdio};
use fcvm_engine::{Attendance, Engine, RunObserver, RunRequest};
use fcvm_spec::VmId;
use fcvm_store::{FailPoint, VmRecord};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::StreamDeserializer;
use serde_json::de::IoRead;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Mutex;

/// How the start goes, one after the other.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// Clients are heard; the container does not run yet.
    Listening,
    Started {
        id: String,
    },
    Failed {
        code: u8,
        sentence: String,
    },
}

/// An owner whose container does not run yet.
pub(super) struct Starting {
    owner: Child,
    said: StreamDeserializer<'static, IoRead<ChildStdout>, Report>,
}

/// What an owner is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// To run a new VM.
    Run(Box<RunRequest>),
    /// To start one that is there.
    Start(VmId, Attendance),
}

/// Runs a new VM in the background; returns its id once its container runs.
pub(super) fn run(request: &RunRequest, engine: &Engine) -> Result<String, Failure> {
    begin(request, engine)?.await_started()
}

/// Starts a VM that is there in the background; returns once its container runs.
pub(super) fn start(vm: &VmId, engine: &Engine) -> Result<(), Failure> {
    begin_start(vm, Attendance::Owner, engine)?.await_started().map(drop)
}

/// Begins to start a VM that is there in the background.
pub(super) fn begin_start(vm: &VmId, attendance: Attendance, engine: &Engine) -> Result<Starting, Failure> {
    give(&Order::Start(vm.clone(), attendance), engine)
}

/// Begins to run a new VM in the background.
pub(super) fn begin(request: &RunRequest, engine: &Engine) -> Result<Starting, Failure> {
    give(&Order::Run(Box::new(request.clone())), engine)
}

/// Starts an owner and tells it what to do.
fn give(order: &Order, engine: &Engine) -> Result<Starting, Failure> {
    let executable = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(executable);
    // No argument: the path need not be text.
    command.arg("owner").env("FCVM_DATA_DIR", engine.store().root());
    // Standard streams, since those alone are inherited by this child and by no other that is started at the same time.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut owner = command.spawn().map_err(failed)?;
    let told = serde_json::to_vec(order)?;
    owner.stdin.take().expect("stdin is piped").write_all(&told).map_err(failed)?;
    engine.reach(FailPoint::OwnerTold)?;
    let said = owner.stdout.take().expect("stdout is piped");
    Ok(Starting { owner, said: serde_json::Deserializer::from_reader(said).into_iter() })
}

fn failed(error: io::Error) -> Failure {
    Failure::new(format!("start the VM's owner: {error}"))
}

impl Starting {
    /// Waits until the owner hears clients.
    pub(super) fn await_listening(&mut self) -> Result<(), Failure> {
        match self.report()? {
            Report::Listening => Ok(()),
            Report::Failed { code, sentence } => Err(self.gone(code, sentence)),
            Report::Started { .. } => Err(Failure::new("the VM's owner started without a word")),
        }
    }

    /// Waits until the container runs; returns the VM's id.
    pub(super) fn await_started(mut self) -> Result<String, Failure> {
        loop {
            match self.report()? {
                Report::Listening => {}
                Report::Started { id } => {
                    // Only then it lives on without this process.
                    let _the_end = self.said.next();
                    return Ok(id);
                }
                Report::Failed { code, sentence } => return Err(self.gone(code, sentence)),
            }
        }
    }

    fn report(&mut self) -> Result<Report, Failure> {
        match self.said.next() {
            Some(Ok(report)) => Ok(report),
            _ => {
                let status = self.owner.wait().map_err(failed)?;
                Err(Failure::new(format!("the VM's owner ended without a word ({status})")))
            }
        }
    }

    fn gone(&mut self, code: u8, sentence: String) -> Failure {
        let _ = self.owner.wait();
        Failure::with_code(code, sentence)
    }
}

/// Owns a VM: the other half of [`run`] and [`start`].
pub(super) fn own(data_dir: &Path) -> Result<ExitCode, Failure> {
    let report = take_stdout()?;
    follow_client(&report)?;
    let _ = rustix::process::setsid();
    let reporter = Reporter { display: Display::new(Show::Nothing), report: Mutex::new(Some(report)) };
    let outcome = obey(data_dir, &reporter);
    if let Err(failure) = &outcome {
        reporter.say(&Report::Failed { code: failure.code(), sentence: failure.text() });
    }
    outcome
}

/// Takes standard output, so that its end can be told, and leaves nothing in its place.
fn take_stdout() -> io::Result<File> {
    let report = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    Ok(report.into())
}

/// Binds this process's life to the thread that started it, which waits for the report.
fn follow_client(report: &File) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::new(format!("follow the end of the client: {error}"));
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // An end before that is not signalled; it has closed the pipe.
    let mut pipe = [PollFd::new(report, PollFlags::empty())];
    match rustix::event::poll(&mut pipe, Some(&Timespec::default())).map_err(failed)? {
        0 => Ok(()),
        _ => Err(Failure::new("the client is gone")),
    }
}

fn obey(data_dir: &Path, reporter: &Reporter) -> Result<ExitCode, Failure> {
    let mut told = Vec::new();
    io::stdin().read_to_end(&mut told)?;
    let order: Order = serde_json::from_slice(&told)?;
    let engine = settings::engine(data_dir)?;
    let outcome = block_on(async {
        let attachment = stdio::detached(stdio::forward()?);
        let outcome = match order {
            Order::Run(request) => engine.run(*request, attachment, reporter).await,
            Order::Start(vm, attendance) => engine.start(vm.as_str(), attendance, attachment, reporter).await,
        };
        Ok::<_, Failure>(outcome)
    })???;
    Ok(ExitCode::from(outcome.code))
}

struct Reporter {
    display: Display,
    report: Mutex<Option<File>>,
}

impl Reporter {
    /// Says how the start goes. With its last word it is free of the client.
    fn say(&self, report: &Report) {
        let mut pipe = self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Ok(text) = serde_json::to_vec(report) else { return };
        let _the_client_is_gone = pipe.as_mut().map(|pipe| pipe.write_all(&text));
        if !matches!(report, Report::Listening) && pipe.is_some() {
            // Between the two, so that there is no moment at which its end would go unnoticed or kill wrongly.
            let _ = rustix::process::set_parent_process_death_signal(None);
            *pipe = None;
        }
    }
}

impl RunObserver for Reporter {
    fn image(&self) -> &dyn fcvm_image::Progress {
        &self.display
    }

    fn listening(&self) {
        self.say(&Report::Listening);
    }

    fn started(&self, record: &VmRecord) {
        self.say(&Report::Started { id: record.spec.id.to_string() });
    }
}
