//! What is done with a command line: one file a verb or a family of verbs.

mod doctor;
mod exec;
mod image;
mod inspect;
mod list;
mod logs;
mod owner;
mod papers;
mod run;
mod setup;
mod vm;

use crate::args::{Cli, PodmanVerb, Verb};
use crate::error::Failure;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let data_dir = cli.data_dir;
    match cli.verb {
        Verb::Podman(verb) => podman(*verb, data_dir),
        Verb::Direct(verb) => podman(verb, data_dir),
        Verb::Setup(args) => done(setup::setup(&args, data_dir.as_deref())),
        Verb::Doctor(args) => doctor::doctor(&args, data_dir.as_deref()),
        Verb::Ls(args) => done(list::ls(args, data_dir.as_deref())),
        Verb::Completions { shell } => done(papers::completions(shell)),
        Verb::Man { dir } => done(papers::man(&dir)),
        Verb::Owner { report } => owner::own(report, data_dir.as_deref()),
    }
}

fn podman(verb: PodmanVerb, data_dir: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let data_dir = data_dir.as_deref();
    match verb {
        PodmanVerb::Run(args) => run::run(*args, data_dir),
        PodmanVerb::Exec(args) => exec::exec(args, data_dir),
        PodmanVerb::Ps(args) => done(list::ps(&args, data_dir)),
        PodmanVerb::Logs(args) => done(logs::logs(&args, data_dir)),
        PodmanVerb::Stop(args) => vm::stop(args, data_dir),
        PodmanVerb::Kill(args) => vm::kill(args, data_dir),
        PodmanVerb::Rm(args) => vm::rm(args, data_dir),
        PodmanVerb::Wait(args) => vm::wait(args, data_dir),
        PodmanVerb::Inspect(args) => done(inspect::inspect(&args, data_dir)),
        PodmanVerb::Port(args) => done(vm::port(&args, data_dir)),
        PodmanVerb::Images(args) => done(image::images(&args, data_dir)),
        PodmanVerb::Pull(args) => done(image::pull(&args, data_dir)),
        PodmanVerb::Load(args) => done(image::load(&args, data_dir)),
        PodmanVerb::Rmi(args) => done(image::rmi(args, data_dir)),
    }
}

fn done(result: Result<(), Failure>) -> Result<ExitCode, Failure> {
    result.map(|()| ExitCode::SUCCESS)
}

/// Runs a use case to its end on this thread. What still blocks a thread then (a read of stdin) is left behind.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("start the runtime: {error}")))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}
