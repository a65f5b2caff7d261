//! `volume`: directories that outlive VMs, and what VMs have changed in volumes that they have for themselves.

use super::system::Filter;
use super::{block_on, changes};
use crate::args::{
    CreateVolumeArgs, InspectVolumesArgs, ListVolumesArgs, PruneVolumesArgs, RemoveVolumesArgs, ViewArgs, VolumeVerb,
    fresh,
};
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, table, time};
use fcvm_engine::volumes::view::Applied;
use fcvm_engine::{Engine, Error};
use fcvm_image::changes::ChangedFile;
use fcvm_spec::VolumeName;
use fcvm_store::{VolumeDir, VolumeRecord, VolumeUse};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Podman's default for `volume rm -f`.
const TIMEOUT_S: u32 = 10;

/// Does what was asked of volumes.
pub(super) fn volume(verb: VolumeVerb, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let done = |result: Result<(), Failure>| result.map(|()| ExitCode::SUCCESS);
    match verb {
        VolumeVerb::Create(args) => done(create(&args, &engine)),
        VolumeVerb::Ls(args) => done(list(&args, &engine)),
        VolumeVerb::Inspect(args) => done(inspect(&args, &engine)),
        VolumeVerb::Rm(args) => remove(&args, &engine),
        VolumeVerb::Prune(args) => done(prune(&args, &engine)),
        VolumeVerb::Exists { name } => {
            let found = name.parse().ok().and_then(|name| engine.store().volume(&name).ok());
            Ok(ExitCode::from(u8::from(found.is_none())))
        }
        VolumeVerb::Diff(args) => done(diff(&args, &engine)),
        VolumeVerb::Apply(args) => apply(&args, &engine),
    }
}

fn create(args: &CreateVolumeArgs, engine: &Engine) -> Result<(), Failure> {
    args.check()?;
    let name: VolumeName = match &args.name {
        Some(name) => name.parse()?,
        None => fresh()?.0.as_str().parse()?,
    };
    let record = VolumeRecord { created_ns: time::now_ns(), labels: args.labels() };
    if engine.store().create_volume(&name, &record)?.is_none() {
        // Podman's words.
        return Err(Failure::new(format!("volume with name {name} already exists: volume already exists")));
    }
    ui::say(name.as_str());
    Ok(())
}

fn list(args: &ListVolumesArgs, engine: &Engine) -> Result<(), Failure> {
    let volumes = matching(&args.filter, engine)?;
    let rows = volumes.iter().map(|volume| describe(volume, engine)).collect::<Result<Vec<_>, _>>()?;
    let cells: Vec<Vec<String>> =
        volumes.iter().map(|volume| vec!["local".to_owned(), volume.name().to_string()]).collect();
    let text = match args.format.as_deref() {
        Some("json") => serde_json::to_string_pretty(&rows)?,
        _ if args.quiet => volumes.iter().map(|volume| volume.name().as_str()).collect::<Vec<_>>().join("\n"),
        None | Some("table") if args.noheading => table::body(&cells),
        None | Some("table") if volumes.is_empty() => String::new(),
        None | Some("table") => table::render(&["DRIVER", "VOLUME NAME"], &cells),
        Some(template) if args.noheading => Template::parse(template)?.render_body(&rows)?,
        Some(template) => Template::parse(template)?.render(&rows)?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    Ok(())
}

/// The volumes that all filters choose.
fn matching(filters: &[String], engine: &Engine) -> Result<Vec<VolumeDir>, Failure> {
    let filters = filters.iter().map(|text| VolumeFilter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    for volume in engine.store().volumes()? {
        let (record, users) = (volume.record()?, engine.store().users_of_volume(volume.name())?.len());
        if filters.iter().all(|filter| filter.fits(&volume, &record, users)) {
            found.push(volume);
        }
    }
    Ok(found)
}

/// One `--filter` of volumes.
enum VolumeFilter {
    Name(String),
    Driver(String),
    Dangling(bool),
    Other(Filter),
}

impl VolumeFilter {
    fn parse(text: &str) -> Result<Self, Failure> {
        Ok(match text.split_once('=') {
            Some(("name", part)) => Self::Name(part.to_owned()),
            Some(("driver", driver)) => Self::Driver(driver.to_owned()),
            Some(("dangling", is)) => Self::Dangling(matches!(is, "true" | "1")),
            Some(("until" | "label" | "label!", _)) => Self::Other(Filter::parse(text)?),
            _ => {
                let known = "name, driver, dangling, label, label!, until";
                return Err(Failure::new(format!("{text} is an invalid filter: it is one of {known}")));
            }
        })
    }

    fn fits(&self, volume: &VolumeDir, record: &VolumeRecord, users: usize) -> bool {
        match self {
            Self::Name(part) => volume.name().as_str().contains(part),
            Self::Driver(driver) => driver == "local",
            Self::Dangling(is) => *is == (users == 0),
            Self::Other(filter) => filter.fits(record.created_ns, &record.labels),
        }
    }
}

fn inspect(args: &InspectVolumesArgs, engine: &Engine) -> Result<(), Failure> {
    let found: Vec<_> = match args.all {
        true => engine.store().volumes()?.into_iter().map(Ok).collect(),
        false => args.names.iter().map(|name| engine.store().find_volume(name)).collect(),
    };
    let rows = found.into_iter().map(|volume| describe(&volume?, engine));
    super::inspect::show(rows, args.format.as_deref())
}

/// In podman's shape.
fn describe(volume: &VolumeDir, engine: &Engine) -> Result<Value, Failure> {
    let record = volume.record()?;
    let is_running = |record: &&fcvm_store::VmRecord| record.phase.is_live();
    let mounts = engine.store().users_of_volume(volume.name())?.iter().filter(is_running).count();
    Ok(json!({
        "Name": volume.name(),
        "Driver": "local",
        "Mountpoint": volume.data(),
        "CreatedAt": time::rfc3339(record.created_ns),
        "Labels": record.labels,
        "Scope": "local",
        "Options": {},
        "MountCount": mounts,
        "NeedsCopyUp": volume.usage() == VolumeUse::Fresh,
        "NeedsChown": volume.usage() == VolumeUse::Fresh,
        "Anonymous": false,
    }))
}

fn remove(args: &RemoveVolumesArgs, engine: &Engine) -> Result<ExitCode, Failure> {
    let mut names = args.names.clone();
    if args.all {
        names.extend(engine.store().volumes()?.iter().map(|volume| volume.name().to_string()));
    }
    let force = args.force.then(|| Duration::from_secs(args.time.unwrap_or(TIMEOUT_S).into()));
    let mut code = 0;
    for name in names {
        match block_on(engine.remove_volume(&name, force))? {
            Ok(name) => ui::say(name.as_str()),
            Err(Error::Store(fcvm_store::Error::NoSuchVolume(_))) if args.force => {}
            Err(error) => {
                code = code.max(failure_of_rm(&error));
                Failure::from(error).report();
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// Podman's codes: 1 for a volume that is not there, 2 for one that is in use.
fn failure_of_rm(error: &Error) -> u8 {
    match error {
        Error::Store(fcvm_store::Error::NoSuchVolume(_)) => 1,
        Error::Store(fcvm_store::Error::VolumeInUse { .. }) => 2,
        other => other.exit_code(),
    }
}

fn prune(args: &PruneVolumesArgs, engine: &Engine) -> Result<(), Failure> {
    if !args.force {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new("standard input is no terminal to ask at; give --force"));
        }
        ui::ask(
            "WARNING! This will remove all volumes not used by at least one container.\nAre you sure you want to continue? [y/N] ",
        );
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
    }
    remove_unused(&matching(&args.filter, engine)?, engine)?.iter().for_each(|(name, _)| ui::say(name.as_str()));
    Ok(())
}

/// Removes those that no VM has, and returns how large each was.
pub(super) fn remove_unused(volumes: &[VolumeDir], engine: &Engine) -> Result<Vec<(VolumeName, u64)>, Failure> {
    let mut removed = Vec::new();
    for volume in volumes {
        let size = volume.size();
        match engine.store().remove_volume(volume.name()) {
            Ok(()) => removed.push((volume.name().clone(), size)),
            // Somebody has it, or removed it meanwhile.
            Err(fcvm_store::Error::VolumeInUse { .. } | fcvm_store::Error::NoSuchVolume(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}

fn diff(args: &ViewArgs, engine: &Engine) -> Result<(), Failure> {
    let at = args.at()?;
    let found = block_on(engine.view_changes(&at))??;
    changes::show(&below(&at.path, found), args.format.as_deref())
}

fn apply(args: &ViewArgs, engine: &Engine) -> Result<ExitCode, Failure> {
    let at = args.at()?;
    match block_on(engine.apply_view(&at))?? {
        Applied::Whole(changed) => changes::show(&below(&at.path, changed), args.format.as_deref())?,
        Applied::Not(conflicts) => {
            for conflict in &conflicts {
                let path = within(&at.path, &conflict.path);
                ui::say(&format!(
                    "conflict {}: the host has {} it too",
                    ui::visible(&path.to_string_lossy()),
                    conflict.host
                ));
            }
            let count = if conflicts.len() == 1 { "a conflict" } else { &format!("{} conflicts", conflicts.len()) };
            let advice = "make these files alike on one side and apply again";
            return Err(Failure::with_code(1, format!("{count}, so nothing was applied; {advice}")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The paths as the container has them.
fn below(target: &str, found: Vec<ChangedFile>) -> Vec<ChangedFile> {
    found.into_iter().map(|file| ChangedFile { path: within(target, &file.path), change: file.change }).collect()
}

fn within(target: &str, path: &Path) -> PathBuf {
    Path::new(target).join(path.strip_prefix("/").unwrap_or(path))
}
