//! What is done with a command line: one file a verb or a family of verbs.

mod about;
mod attach;
mod changes;
mod commit;
mod copy;
mod doctor;
mod events;
mod exec;
mod generate;
mod health;
mod image;
mod inspect;
mod list;
mod logs;
mod metadata;
mod owner;
mod papers;
mod run;
mod save;
mod setup;
mod snapshot;
mod stats;
mod system;
mod top;
mod vm;
mod volume;
mod which;

use crate::args::{Cli, ContainerVerb, GenerateVerb, HealthcheckVerb, PodmanVerb, Verb};
use crate::config::Config;
use crate::error::Failure;
use crate::settings;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let flag = cli.data_dir;
    match cli.verb {
        Verb::Podman(verb) => podman(*verb, flag),
        Verb::Direct(verb) => podman(verb, flag),
        Verb::Setup(args) => done(setup::setup(&args, &place(flag)?.1)),
        Verb::Doctor(args) => doctor::doctor(&args, &place(flag)?.1),
        Verb::Ls(args) => done(list::ls(args, &place(flag)?.1)),
        Verb::Snapshot(verb) => snapshot::snapshot(verb, &place(flag)?.1),
        Verb::Rewind { vm, snapshot } => done(snapshot::rewind(&vm, &snapshot, &place(flag)?.1)),
        Verb::Metadata(verb) => done(metadata::metadata(verb, &place(flag)?.1)),
        Verb::Fork(args) => snapshot::fork(args, &place(flag)?.1),
        Verb::Flags => done(papers::flags()),
        Verb::Owner => owner::own(&place(flag)?.1),
        Verb::Completions { shell } => done(papers::completions(shell)),
        Verb::Man { dir } => done(papers::man(&dir)),
    }
}

/// What the settings files say, and where data is. Read only by verbs that need it: papers are made anywhere.
fn place(flag: Option<PathBuf>) -> Result<(Config, PathBuf), Failure> {
    let config = settings::config()?;
    let data_dir = settings::data_dir(flag, &config)?;
    Ok((config, data_dir))
}

fn podman(verb: PodmanVerb, flag: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let (config, data_dir) = &place(flag)?;
    match verb {
        PodmanVerb::Run(args) => run::run(*args, config, data_dir),
        PodmanVerb::Create(args) => done(run::create(*args, config, data_dir)),
        PodmanVerb::Start(args) => vm::start(args, data_dir),
        PodmanVerb::Restart(args) => vm::restart(args, data_dir),
        PodmanVerb::Pause { which } => vm::pause(which, data_dir),
        PodmanVerb::Unpause { which } => vm::unpause(which, data_dir),
        PodmanVerb::Rename { vm, name } => done(vm::rename(&vm, &name, data_dir)),
        PodmanVerb::Update(args) => done(vm::update(&args, data_dir)),
        PodmanVerb::Prune(args) | PodmanVerb::Container(ContainerVerb::Prune(args)) => vm::prune(args, data_dir),
        PodmanVerb::Events(args) => done(events::events(&args, data_dir)),
        PodmanVerb::Prepare(args) => health::prepare(*args, config, data_dir),
        PodmanVerb::Healthcheck(HealthcheckVerb::Run { name }) => health::check(&name, data_dir),
        PodmanVerb::Attach(args) => attach::attach(&args, data_dir),
        PodmanVerb::Exec(args) => exec::exec(args, data_dir),
        PodmanVerb::Cp(args) => done(copy::copy(args, data_dir)),
        PodmanVerb::Diff(args) => done(changes::diff(&args, data_dir)),
        PodmanVerb::Commit(args) => done(commit::commit(args, data_dir)),
        PodmanVerb::Export(args) => done(changes::export(&args, data_dir)),
        PodmanVerb::Top(args) => top::top(&args, data_dir),
        PodmanVerb::Stats(args) => done(stats::stats(&args, data_dir)),
        PodmanVerb::Volume(verb) => volume::volume(verb, data_dir),
        PodmanVerb::System(verb) => done(system::system(&verb, data_dir)),
        PodmanVerb::Ps(args) => done(list::ps(&args, data_dir)),
        PodmanVerb::Logs(args) => done(logs::logs(&args, data_dir)),
        PodmanVerb::Stop(args) => vm::stop(args, data_dir),
        PodmanVerb::Kill(args) => vm::kill(args, data_dir),
        PodmanVerb::Rm(args) => vm::rm(args, data_dir),
        PodmanVerb::Wait(args) => vm::wait(&args, data_dir),
        PodmanVerb::Inspect(args) => done(inspect::inspect(&args, data_dir)),
        PodmanVerb::Port(args) => done(vm::port(&args, data_dir)),
        PodmanVerb::Generate(GenerateVerb::Systemd(args)) => done(generate::systemd(&args, data_dir)),
        PodmanVerb::Images(args) => done(image::images(&args, data_dir)),
        PodmanVerb::Pull(args) => done(image::pull(&args, data_dir)),
        PodmanVerb::Load(args) => done(image::load(&args, data_dir)),
        PodmanVerb::Save(args) => done(save::save(&args, data_dir)),
        PodmanVerb::Rmi(args) => image::rmi(args, data_dir),
        PodmanVerb::Version(args) => done(about::version(&args)),
        PodmanVerb::Info(args) => done(about::info(&args, data_dir)),
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
