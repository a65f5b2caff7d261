//! `system`: what takes how much of the disk, and what of it can go.

use super::{about, block_on, logs, volume};
use crate::args::{DfArgs, PruneArgs, SystemVerb};
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, table, time};
use fcvm_engine::{Engine, Remove};
use fcvm_image::{Image, Prune};
use fcvm_store::{VmRecord, VolumeDir};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

/// Does what `system` is told.
pub(super) fn system(verb: &SystemVerb, data_dir: &Path) -> Result<(), Failure> {
    match verb {
        SystemVerb::Df(args) => df(args, &settings::engine(data_dir)?),
        SystemVerb::Prune(args) => prune(args, &settings::engine(data_dir)?),
        SystemVerb::Info(args) => about::info(args, data_dir),
    }
}

/// A thing that takes room.
struct Taking {
    name: String,
    id: String,
    bytes: u64,
    in_use: bool,
}

fn df(args: &DfArgs, engine: &Engine) -> Result<(), Failure> {
    let kinds = [
        ("Images", images(engine)?),
        ("Containers", vms(engine)?),
        ("Local Volumes", volumes(engine)?),
        ("Snapshots", snapshots(engine)?),
    ];
    if args.verbose {
        for (kind, all) in &kinds {
            ui::say(&format!("{kind} space usage:\n"));
            let used = |taking: &Taking| if taking.in_use { "yes" } else { "no" }.to_owned();
            let cells =
                |taking: &Taking| vec![taking.name.clone(), taking.id.clone(), time::size(taking.bytes), used(taking)];
            ui::say(&table::render(&["NAME", "ID", "SIZE", "IN USE"], &all.iter().map(cells).collect::<Vec<_>>()));
            ui::say("");
        }
        return Ok(());
    }
    let rows: Vec<Value> = kinds.iter().map(|(kind, all)| sum(kind, all)).collect();
    let text = match args.format.as_deref() {
        Some("json") => serde_json::to_string_pretty(&rows.iter().map(|row| &row["json"]).collect::<Vec<_>>())?,
        Some(template) => Template::parse(template)?.render(&rows)?,
        None => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let cells = |row: &Value| ["Type", "Total", "Active", "Size", "Reclaimable"].map(|field| text(&row[field]));
            let rows: Vec<_> = rows.iter().map(|row| cells(row).to_vec()).collect();
            table::render(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], &rows)
        }
    };
    ui::say(&text);
    Ok(())
}

fn sum(kind: &str, all: &[Taking]) -> Value {
    let total: u64 = all.iter().map(|taking| taking.bytes).sum();
    let free: u64 = all.iter().filter(|taking| !taking.in_use).map(|taking| taking.bytes).sum();
    let active = all.iter().filter(|taking| taking.in_use).count();
    let share = (free * 100).checked_div(total).unwrap_or(0);
    let reclaimable = format!("{} ({share}%)", time::size(free));
    json!({
        "Type": kind, "Total": all.len(), "Active": active, "Size": time::size(total), "Reclaimable": reclaimable,
        "json": {
            "Type": kind, "Total": all.len(), "Active": active, "RawSize": total, "RawReclaimable": free,
            "TotalCount": all.len(), "Size": time::size(total), "Reclaimable": reclaimable,
        },
    })
}

fn images(engine: &Engine) -> Result<Vec<Taking>, Failure> {
    let users: HashSet<String> = records(engine)?.into_iter().filter_map(|record| record.image_digest).collect();
    let taking = |image: Image| Taking {
        name: image.names.first().cloned().unwrap_or_else(|| "<none>".to_owned()),
        id: image.digest.trim_start_matches("sha256:").chars().take(12).collect(),
        bytes: image.size,
        in_use: users.contains(&image.digest),
    };
    Ok(engine.images().store().list()?.into_iter().map(taking).collect())
}

fn vms(engine: &Engine) -> Result<Vec<Taking>, Failure> {
    let mut all = Vec::new();
    for vm in engine.store().vms()? {
        let Ok(record) = vm.record() else { continue };
        let bytes = vm.disk_bytes().unwrap_or(0);
        let (name, id) = (record.spec.name.to_string(), record.spec.id.short().to_owned());
        all.push(Taking { name, id, bytes, in_use: vm.is_owned() });
    }
    Ok(all)
}

fn volumes(engine: &Engine) -> Result<Vec<Taking>, Failure> {
    let mut all = Vec::new();
    for volume in engine.store().volumes()? {
        let in_use = !engine.store().users_of_volume(volume.name())?.is_empty();
        all.push(Taking { name: volume.name().to_string(), id: "-".to_owned(), bytes: volume.size(), in_use });
    }
    Ok(all)
}

/// What no tag keeps can be made anew.
fn snapshots(engine: &Engine) -> Result<Vec<Taking>, Failure> {
    let mut all = Vec::new();
    for snapshot in engine.store().snapshots()? {
        let tags = engine.store().tags_of(snapshot.id())?;
        let name = tags.first().map_or_else(|| "<cache>".to_owned(), ToString::to_string);
        let bytes = snapshot.sizes()?.real;
        all.push(Taking { name, id: snapshot.id().short().to_owned(), bytes, in_use: !tags.is_empty() });
    }
    Ok(all)
}

fn records(engine: &Engine) -> Result<Vec<VmRecord>, Failure> {
    Ok(engine.store().vms()?.into_iter().filter_map(|vm| vm.record().ok()).collect())
}

fn prune(args: &PruneArgs, engine: &Engine) -> Result<(), Failure> {
    let filters = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if !args.force && !confirmed(args)? {
        return Ok(());
    }
    let mut freed = 0;
    let ended = engine.store().vms()?.into_iter().filter(|vm| !vm.is_owned());
    let mut said = vec!["Deleted Containers".to_owned()];
    for vm in ended {
        let Ok(record) = vm.record() else { continue };
        if record.phase.is_live()
            || !filters.iter().all(|filter| filter.fits(record.created_ns, &record.spec.container.labels))
        {
            continue;
        }
        let bytes = vm.disk_bytes().unwrap_or(0);
        block_on(engine.remove(vm.id().as_str(), Remove::IfEnded))??;
        freed += bytes;
        said.push(vm.id().to_string());
    }
    say_some(&said);
    let mut said = vec!["Deleted Snapshots".to_owned()];
    for snapshot in engine.store().snapshots()? {
        let Ok(manifest) = snapshot.manifest() else { continue };
        let fits = filters.iter().all(|filter| filter.fits(manifest.created_ns, &manifest.labels));
        if fits && engine.store().tags_of(snapshot.id())?.is_empty() {
            let sizes = snapshot.sizes()?;
            freed += sizes.real - sizes.shared;
            snapshot.remove()?;
            said.push(snapshot.id().to_string());
        }
    }
    say_some(&said);
    if args.volumes {
        let fits = |volume: &VolumeDir| {
            let record = volume.record().unwrap_or_default();
            filters.iter().all(|filter| filter.fits(record.created_ns, &record.labels))
        };
        let unused: Vec<_> = engine.unused_volumes()?.into_iter().filter(fits).collect();
        let mut said = vec!["Deleted Volumes".to_owned()];
        for (name, size) in volume::remove_unused(&unused, engine)? {
            freed += size;
            said.push(name.to_string());
        }
        say_some(&said);
    }
    // Images have neither labels of their own users nor a time that is told: a filter means that they stay.
    if filters.is_empty() {
        let what = if args.all { Prune::Unused } else { Prune::Dangling };
        let removed = engine.images().store().prune(what)?;
        freed += removed.freed;
        let mut said = vec!["Deleted Images".to_owned()];
        said.extend(removed.deleted.iter().map(|id| id.trim_start_matches("sha256:").to_owned()));
        say_some(&said);
    }
    ui::say(&format!("Total reclaimed space: {}", time::size(freed)));
    Ok(())
}

/// Prints a list with its title, if there is anything in it.
fn say_some(lines: &[String]) {
    if lines.len() > 1 {
        lines.iter().for_each(|line| ui::say(line));
    }
}

fn confirmed(args: &PruneArgs) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("standard input is no terminal to ask at; give --force"));
    }
    let images = if args.all { "all images that no VM uses" } else { "images without a name" };
    let volumes = if args.volumes { ", volumes that no VM has" } else { "" };
    ui::complain(&format!("This removes all ended VMs, snapshots without a tag{volumes}, and {images}."));
    let mut stderr = std::io::stderr();
    write!(stderr, "Are you sure you want to continue? [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// One `--filter`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Made before this moment.
    Until(i64),
    Label {
        name: String,
        value: Option<String>,
        wanted: bool,
    },
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let label = |text: &str, wanted| {
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
            Self::Label { name: name.to_owned(), value, wanted }
        };
        match text.split_once('=') {
            Some(("until", moment)) => {
                Ok(Self::Until(i64::try_from(logs::moment(moment)?.as_nanosecond()).unwrap_or(i64::MAX)))
            }
            Some(("label", text)) => Ok(label(text, true)),
            Some(("label!", text)) => Ok(label(text, false)),
            _ => Err(Failure::new(format!("{text} is an invalid filter: it is one of until, label, label!"))),
        }
    }

    pub(super) fn fits(&self, created_ns: i64, labels: &std::collections::BTreeMap<String, String>) -> bool {
        match self {
            Self::Until(moment) => created_ns < *moment,
            Self::Label { name, value, wanted } => {
                let found = labels.get(name);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found)) == *wanted
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_by_time_and_label() {
        let labels = [("a".to_owned(), "1".to_owned())].into();
        for (text, fits) in
            [("label=a", true), ("label=a=1", true), ("label=a=2", false), ("label!=a", false), ("label!=b", true)]
        {
            assert_eq!(Filter::parse(text).unwrap().fits(5, &labels), fits, "{text}");
        }
        assert!(Filter::Until(6).fits(5, &labels) && !Filter::Until(5).fits(5, &labels));
        assert!(Filter::parse("dangling=true").is_err());
    }

    #[test]
    fn sums_tell_what_can_go() {
        let taking = |bytes, in_use| Taking { name: "n".into(), id: "i".into(), bytes, in_use };
        let sum = sum("Images", &[taking(3_000, true), taking(1_000, false)]);
        assert_eq!((&sum["Active"], &sum["Reclaimable"]), (&json!(1), &json!("1.00 kB (25%)")));
    }
}
