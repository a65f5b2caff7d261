//! `diff` and `export`: what a container has made of its files.

use super::block_on;
use crate::args::{ExportArgs, FileChangesArgs};
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_image::changes::{Change, ChangedFile};
use serde_json::json;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Lists the files that a container has changed.
pub(super) fn diff(args: &FileChangesArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    show(&block_on(engine.changes(&args.name))??, args.format.as_deref())
}

/// Shows changes as lines or as JSON.
pub(super) fn show(found: &[ChangedFile], format: Option<&str>) -> Result<(), Failure> {
    match format {
        Some("json") => {
            let of = |change: Change| -> Vec<_> {
                let paths = found.iter().filter(|file| file.change == change);
                paths.map(|file| file.path.to_string_lossy().into_owned()).collect()
            };
            // As podman: what there is none of is left out.
            let mut lists =
                json!({ "changed": of(Change::Changed), "added": of(Change::Added), "deleted": of(Change::Deleted) });
            if let Some(lists) = lists.as_object_mut() {
                lists.retain(|_, list| list.as_array().is_some_and(|list| !list.is_empty()));
            }
            ui::say(&serde_json::to_string_pretty(&lists)?);
        }
        Some(other) => return Err(Failure::new(format!("the format {other:?} is not json"))),
        None => found.iter().for_each(|file| ui::say(&line(file))),
    }
    Ok(())
}

fn line(file: &ChangedFile) -> String {
    let letter = match file.change {
        Change::Added => 'A',
        Change::Changed => 'C',
        Change::Deleted => 'D',
    };
    format!("{letter} {}", ui::visible(&file.path.to_string_lossy()))
}

/// Writes a container's files as a tar archive.
pub(super) fn export(args: &ExportArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let to: Box<dyn Write + Send> = match &args.output {
        Some(path) => {
            let failed = |error| Failure::new(format!("create {}: {error}", path.display()));
            Box::new(File::create(path).map_err(failed)?)
        }
        None => Box::new(standard_output()?),
    };
    Ok(block_on(engine.export(&args.name, to))??)
}

/// Standard output without a buffer of its own, if it is not a terminal.
pub(super) fn standard_output() -> Result<File, Failure> {
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(Failure::new("standard output is a terminal; an archive is written to a file or a pipe"));
    }
    Ok(File::from(stdout.as_fd().try_clone_to_owned()?))
}
