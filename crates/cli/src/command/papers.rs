//! Completions, man pages and the page about podman's flags, made of the same table as the parser.

use crate::args;
use crate::error::Failure;
use std::io::{self, Write};
use std::path::Path;

pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    clap_complete::generate(shell, &mut args::command(), "fcvm", &mut std::io::stdout());
    Ok(())
}

pub(super) fn man(dir: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::new(format!("write man pages into {}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(args::command(), dir).map_err(failed)
}

pub(super) fn flags() -> Result<(), Failure> {
    Ok(io::stdout().write_all(args::podmans_flags().as_bytes())?)
}
