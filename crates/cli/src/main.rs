//! The `fcvm` command: reads flags, environment and files once, calls the engine, prints.
//!
//! `args` is what was typed, `command` what is done with it, `ui` what is shown. Nothing below `command` sees a flag.

mod args;
mod command;
mod config;
mod detach;
mod error;
mod settings;
mod stdio;
mod terminal;
mod ui;

use error::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A jail, of the monitor or of the file server, is this program started anew: before anything else, since it needs a single thread.
    let first = std::env::args_os().nth(1);
    if first.as_ref().is_some_and(|first| first == settings::JAIL_MARKER) {
        return fcvm_sys::jail::enter(fcvm_volume::serve);
    }
    let outcome = if first.is_some_and(|first| first == settings::PAGER_MARKER) { serve_pages() } else { run() };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn serve_pages() -> Result<ExitCode, Failure> {
    fcvm_pager::enter().map_err(|error| Failure::new(format!("serve a snapshot's pages: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn run() -> Result<ExitCode, Failure> {
    let cli = args::parse(std::env::args_os())?;
    ui::log::start();
    allow_descriptors();
    command::run(cli)
}

/// Allows this process as many descriptors as it may have: an owner has one for every connection of its VM, and shells
/// give 1,024.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }) {
        tracing::debug!(%error, "the limit of descriptors stays as it was");
    }
}
