//! `ps` and `ls`: what VMs there are.

use crate::args::ListArgs;
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, table, time};
use fcvm_spec::Phase;
use fcvm_store::VmRecord;
use serde_json::{Value, json};
use std::path::Path;

/// Lists VMs as podman lists containers.
pub(super) fn ps(args: &ListArgs, data_dir: &Path) -> Result<(), Failure> {
    show(
        args,
        data_dir,
        &["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"],
        |record, args| {
            let row = row(record, args);
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"].map(text).to_vec()
        },
    )
}

/// Lists all VMs with what runs them.
pub(super) fn ls(mut args: ListArgs, data_dir: &Path) -> Result<(), Failure> {
    args.all = true;
    show(&args, data_dir, &["NAME", "ID", "IMAGE", "STATUS", "CPUS", "MEMORY", "MONITOR", "OWNER"], |record, args| {
        let row = row(record, args);
        let text = |name: &str| row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned);
        ["Names", "ID", "Image", "Status", "Cpus", "Memory", "Monitor", "OwnerPid"].map(text).to_vec()
    })
}

fn show(
    args: &ListArgs,
    data_dir: &Path,
    header: &[&str],
    cells: impl Fn(&VmRecord, &ListArgs) -> Vec<String>,
) -> Result<(), Failure> {
    let records = records(args, data_dir)?;
    let rows = || records.iter().map(|record| row(record, args)).collect::<Vec<_>>();
    let text = match args.format.as_deref() {
        _ if args.quiet => {
            rows().iter().filter_map(|row| row["ID"].as_str().map(str::to_owned)).collect::<Vec<_>>().join("\n")
        }
        Some("json") => serde_json::to_string_pretty(&rows())?,
        None | Some("table") => {
            let rows: Vec<_> = records.iter().map(|record| cells(record, args)).collect();
            let table = table::render(header, &rows);
            if args.noheading {
                table.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
            } else {
                table
            }
        }
        Some(template) => Template::parse(template)?.render(&rows())?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    Ok(())
}

fn records(args: &ListArgs, data_dir: &Path) -> Result<Vec<VmRecord>, Failure> {
    let engine = settings::engine(data_dir)?;
    let filters: Vec<Filter> = args.filter.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?;
    let explicit = filters.iter().any(|filter| matches!(filter, Filter::Status(_)));
    let mut records = Vec::new();
    for vm in engine.store().vms()? {
        match vm.record() {
            Ok(record) => records.push(record),
            // Removed in this moment.
            Err(fcvm_store::Error::NoSuchVm(_)) => {}
            Err(error) => ui::complain(&format!("Warning: {error}")),
        }
    }
    records.retain(|record| args.all || explicit || matches!(record.phase, Phase::Running | Phase::Stopping));
    records.retain(|record| filters.iter().all(|filter| filter.matches(record)));
    records.sort_by_key(|record| std::cmp::Reverse(record.created_ns));
    Ok(records)
}

fn row(record: &VmRecord, args: &ListArgs) -> Value {
    let spec = &record.spec;
    let id = if args.no_trunc { spec.id.as_str() } else { spec.id.short() };
    let ports: Vec<String> = record.ports.iter().map(ToString::to_string).collect();
    json!({
        "ID": id,
        "Image": spec.image,
        "Command": command(&record.command, args.no_trunc),
        "CreatedAt": time::rfc3339(record.created_ns),
        "RunningFor": format!("{} ago", time::span((time::now_ns() - record.created_ns) / 1_000_000_000)),
        "Status": status(record),
        "State": record.phase.podman(),
        "Ports": ports.join(", "),
        "Names": spec.name,
        "Labels": spec.container.labels,
        "ExitCode": record.ended.as_ref().map(|ended| ended.code),
        "Cpus": spec.machine.cpus,
        "Memory": spec.machine.memory.to_string(),
        "Monitor": record.monitor.as_ref().map(|monitor| format!("{}/{}", monitor.backend, monitor.accel)).unwrap_or_default(),
        "OwnerPid": if record.phase.is_live() { record.owner.pid } else { 0 },
    })
}

/// `Up 5 seconds`, `Exited (0) 2 minutes ago`, as podman says it.
pub(super) fn status(record: &VmRecord) -> String {
    let since = |ns: i64| time::span((time::now_ns() - ns) / 1_000_000_000);
    match (&record.ended, record.started_ns) {
        (Some(ended), _) => format!("Exited ({}) {} ago", ended.code, since(ended.at_ns)),
        (None, Some(started)) => format!("Up {}", since(started)),
        (None, None) => "Created".to_owned(),
    }
}

fn command(words: &[String], whole: bool) -> String {
    const SHOWN: usize = 20;
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) if !whole => format!("{}…", &line[..end]),
        _ => line,
    }
}

/// A `--filter`.
enum Filter {
    Name(String),
    Id(String),
    Status(String),
    Ancestor(String),
    Label(String, Option<String>),
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Failure> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let value = value.to_owned();
        match key {
            "name" => Ok(Self::Name(value)),
            "id" => Ok(Self::Id(value)),
            "status" => Ok(Self::Status(value)),
            "ancestor" => Ok(Self::Ancestor(value)),
            "label" => Ok(match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(value, None),
            }),
            _ => Err(Failure::new(format!("unknown filter {key:?}: it is one of name, id, status, label, ancestor"))),
        }
    }

    fn matches(&self, record: &VmRecord) -> bool {
        match self {
            Self::Name(part) => record.spec.name.as_str().contains(part),
            Self::Id(start) => record.spec.id.as_str().starts_with(start),
            Self::Status(state) => record.phase.podman() == state,
            Self::Ancestor(image) => record.spec.image == *image || record.image_digest.as_deref() == Some(image),
            Self::Label(name, None) => record.spec.container.labels.contains_key(name),
            Self::Label(name, Some(value)) => record.spec.container.labels.get(name) == Some(value),
        }
    }
}
