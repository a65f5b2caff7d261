//! `ps` and `ls`: what VMs there are. A row's fields are in [`row`], `--filter` in [`filter`].

mod filter;
mod row;

pub(super) use filter::Filters;
pub(super) use row::{ports, status};

use crate::args::{ListArgs, Sort};
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, table};
use fcvm_engine::Engine;
use fcvm_spec::Phase;
use fcvm_store::VmRecord;
use serde_json::Value;
use std::cmp::Reverse;
use std::path::Path;

/// A table: its columns' titles and the fields of a row that stand in them.
struct Columns {
    titles: &'static [&'static str],
    fields: &'static [&'static str],
}

const PS: Columns = Columns {
    titles: &["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"],
    fields: &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"],
};
const LS: Columns = Columns {
    titles: &["NAME", "ID", "IMAGE", "STATUS", "CPUS", "MEMORY", "MONITOR", "OWNER"],
    fields: &["Names", "ID", "Image", "Status", "Cpus", "Memory", "Monitor", "OwnerPid"],
};

/// Lists VMs as podman lists containers.
pub(super) fn ps(args: &ListArgs, data_dir: &Path) -> Result<(), Failure> {
    show(args, data_dir, &PS)
}

/// Lists all VMs with what runs them.
pub(super) fn ls(mut args: ListArgs, data_dir: &Path) -> Result<(), Failure> {
    args.all = true;
    show(&args, data_dir, &LS)
}

fn show(args: &ListArgs, data_dir: &Path, columns: &Columns) -> Result<(), Failure> {
    let records = listed(args, data_dir)?;
    let rows = || records.iter().map(|record| row::for_template(record, args.no_trunc)).collect::<Vec<_>>();
    let text = match args.format.as_deref() {
        Some("json") => serde_json::to_string_pretty(&records.iter().map(row::for_json).collect::<Vec<_>>())?,
        _ if args.quiet => {
            rows().iter().filter_map(|row| row["ID"].as_str().map(str::to_owned)).collect::<Vec<_>>().join("\n")
        }
        None | Some("table") if args.noheading => table::body(&cells(&rows(), columns.fields)),
        None | Some("table") => table::render(columns.titles, &cells(&rows(), columns.fields)),
        Some(template) if args.noheading => Template::parse(template)?.render_body(&rows())?,
        Some(template) => Template::parse(template)?.render(&rows())?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    Ok(())
}

fn cells(rows: &[Value], fields: &[&str]) -> Vec<Vec<String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter().map(|row| fields.iter().map(|field| text(&row[*field])).collect()).collect()
}

/// The records of all VMs.
pub(super) fn records(engine: &Engine) -> Result<Vec<VmRecord>, Failure> {
    let mut records = Vec::new();
    for vm in engine.store().vms()? {
        match vm.record() {
            Ok(record) => records.push(record),
            // Removed in this moment.
            Err(fcvm_store::Error::NoSuchVm(_)) => {}
            Err(error) => ui::complain(&format!("Warning: {error}")),
        }
    }
    Ok(records)
}

fn listed(args: &ListArgs, data_dir: &Path) -> Result<Vec<VmRecord>, Failure> {
    let mut records = records(&settings::engine(data_dir)?)?;
    let filters = Filters::parse(&args.filter, &records)?;
    let newest = if args.latest { Some(1) } else { args.last };
    let all = args.all || newest.is_some() || filters.choose_phases();
    records.retain(|record| all || record.phase.is_live() && record.phase != Phase::Starting);
    records.retain(|record| filters.match_all(record));
    records.sort_by_key(|record| Reverse(record.created_ns));
    records.truncate(newest.unwrap_or(usize::MAX));
    sort(&mut records, args.sort);
    Ok(records)
}

fn sort(records: &mut [VmRecord], by: Sort) {
    match by {
        Sort::Created => {}
        Sort::Runningfor => records.sort_by_key(|record| record.created_ns),
        Sort::Command => records.sort_by(|a, b| a.command.cmp(&b.command)),
        Sort::Id => records.sort_by(|a, b| a.spec.id.as_str().cmp(b.spec.id.as_str())),
        Sort::Image => records.sort_by(|a, b| a.spec.image.cmp(&b.spec.image)),
        Sort::Names => records.sort_by(|a, b| a.spec.name.as_str().cmp(b.spec.name.as_str())),
        Sort::Status => records.sort_by_key(|record| record.phase.podman()),
    }
}
