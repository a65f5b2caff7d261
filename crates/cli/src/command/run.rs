//! `run`: the VM's owner is this process, or one in the background.

use super::{attach, block_on, exec, owner};
use crate::args::{Place, RunArgs, RunPlan};
use crate::config::Config;
use crate::error::Failure;
use crate::stdio::{self, Shown};
use crate::ui::progress::Display;
use crate::{settings, ui};
use fcvm_engine::{Engine, RunObserver};
use fcvm_image::PullPolicy;
use fcvm_spec::VmId;
use fcvm_store::{FailPoint, VmRecord};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Makes a VM that is started later, and prints its id.
pub(super) fn create(args: RunArgs, config: &Config, data_dir: &Path) -> Result<(), Failure> {
    let plan = args.plan(config)?;
    let cidfile = plan.cidfile.as_deref().map(CidFile::create).transpose()?;
    let engine = settings::engine(data_dir)?;
    let created = make(plan, &engine);
    match (created, cidfile) {
        (Ok(id), cidfile) => {
            cidfile.map_or(Ok(()), |cidfile| cidfile.write(id.as_str()))?;
            ui::say(id.as_str());
            Ok(())
        }
        (Err(error), cidfile) => {
            cidfile.into_iter().for_each(CidFile::remove);
            Err(error)
        }
    }
}

fn make(mut plan: RunPlan, engine: &Engine) -> Result<VmId, Failure> {
    fetch_image(engine, &mut plan)?;
    Ok(engine.create(plan.request, &Display::new(plan.show))?)
}

/// Runs a container in a new VM.
pub(super) fn run(args: RunArgs, config: &Config, data_dir: &Path) -> Result<ExitCode, Failure> {
    let plan = args.plan(config)?;
    let cidfile = plan.cidfile.as_deref().map(CidFile::create).transpose()?;
    let ran = run_plan(plan, data_dir, cidfile.as_ref());
    if ran.is_err()
        && let Some(cidfile) = cidfile
    {
        cidfile.remove();
    }
    ran
}

fn run_plan(mut plan: RunPlan, data_dir: &Path, cidfile: Option<&CidFile>) -> Result<ExitCode, Failure> {
    let settings = settings::settings(data_dir)?;
    settings::require_agent(&settings)?;
    let engine = Engine::open(settings)?;
    fetch(&engine, &mut plan)?;
    match plan.place {
        Place::Foreground => foreground(&engine, plan, cidfile),
        Place::Background => background(&engine, &plan, cidfile),
        Place::Attended => attended(&engine, &plan, cidfile),
    }
}

pub(super) fn foreground(engine: &Engine, plan: RunPlan, cidfile: Option<&CidFile>) -> Result<ExitCode, Failure> {
    let id = plan.request.spec.id.to_string();
    let observer = Observer { display: Display::new(plan.show), cidfile };
    let (outcome, writer) = block_on(async {
        let (attachment, writer) = stdio::attach(&plan.seat)?;
        let outcome = engine.run(plan.request, attachment, &observer).await;
        Ok::<_, Failure>((outcome, writer))
    })??;
    let written = writer.finish();
    let outcome = outcome?;
    if plan.seat.shown == Shown::NOTHING {
        ui::say(&id);
    }
    if let Some(reason) = outcome.reason.filter(|_| written.is_ok()) {
        return Err(Failure::with_code(outcome.code, reason));
    }
    Ok(ExitCode::from(if is_broken_pipe(&written) { SIGPIPE } else { outcome.code }))
}

/// What a shell shows for a program that SIGPIPE ended.
pub(super) const SIGPIPE: u8 = 141;

pub(super) fn is_broken_pipe(written: &io::Result<()>) -> bool {
    written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn background(engine: &Engine, plan: &RunPlan, cidfile: Option<&CidFile>) -> Result<ExitCode, Failure> {
    let id = owner::run(&plan.request, engine)?;
    if let Some(cidfile) = cidfile {
        cidfile.write(&id)?;
    }
    ui::say(&id);
    Ok(ExitCode::SUCCESS)
}

/// Runs it with an owner of its own and this process at its terminal, which it can leave alone and come back to.
fn attended(engine: &Engine, plan: &RunPlan, cidfile: Option<&CidFile>) -> Result<ExitCode, Failure> {
    let starting = owner::begin(&plan.request, engine)?;
    block_on(async {
        let (id, attached) = attach::join(plan.request.spec.id.as_str(), starting, &plan.seat, engine).await?;
        if let Some(cidfile) = cidfile {
            cidfile.write(&id)?;
        }
        let (outcome, written) = attach::sit(attached, plan.seat.clone()).await?;
        if plan.seat.shown == Shown::NOTHING {
            ui::say(&id);
        }
        exec::ended(outcome, &written)
    })?
}

/// Fetches the image before there is a VM: here progress can be seen, and Ctrl-C ends the program at once. The VM's owner
/// finds the image in place.
fn fetch(engine: &Engine, plan: &mut RunPlan) -> Result<(), Failure> {
    engine.check_set_up(&plan.request.spec)?;
    fetch_image(engine, plan)?;
    Ok(engine.reach(FailPoint::Fetched)?)
}

/// Has the image in place.
pub(super) fn fetch_image(engine: &Engine, plan: &mut RunPlan) -> Result<(), Failure> {
    let mut options = engine.pull_options(plan.request.pull);
    plan.source.apply(&mut options)?;
    engine.ensure_image(&plan.request.spec, &options, &Display::new(plan.show))?;
    plan.request.pull = PullPolicy::Missing;
    Ok(())
}

/// Shows progress, and writes the id where it was asked for.
pub(super) struct Observer<'c> {
    pub(super) display: Display,
    pub(super) cidfile: Option<&'c CidFile>,
}

impl RunObserver for Observer<'_> {
    fn image(&self) -> &dyn fcvm_image::Progress {
        &self.display
    }

    fn started(&self, record: &VmRecord) {
        if let Some(cidfile) = self.cidfile
            && let Err(failure) = cidfile.write(record.spec.id.as_str())
        {
            ui::complain(&format!("Error: {}", failure.text()));
        }
    }
}

/// The file of `--cidfile`, which must not be there before.
#[derive(Debug)]
pub(super) struct CidFile {
    path: PathBuf,
    file: File,
}

impl CidFile {
    fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("create the id file {}: {error}", path.display()));
        let file = File::options().write(true).create_new(true).open(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(&self, id: &str) -> Result<(), Failure> {
        let failed = |error| Failure::new(format!("write the id file {}: {error}", self.path.display()));
        (&self.file).write_all(id.as_bytes()).map_err(failed)
    }

    fn remove(self) {
        let _ = std::fs::remove_file(self.path);
    }
}
