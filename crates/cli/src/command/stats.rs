//! `stats`: what running VMs use, in podman's columns, with what they cost their host beside it.

use super::block_on;
use crate::args::StatsArgs;
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, table, time};
use fcvm_engine::{Engine, Error, VmUsage};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

const TITLES: [&str; 10] =
    ["ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET IO", "BLOCK IO", "PIDS", "CPU TIME", "AVG CPU %"];
const FIELDS: [&str; 10] =
    ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDS", "CPUTime", "AVGCPU"];
/// Clears a terminal and goes to its beginning.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows what VMs use, once or again and again.
pub(super) fn stats(args: &StatsArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    if args.all && !args.names.is_empty() {
        return Err(Failure::new("--all and names exclude each other"));
    }
    block_on(async {
        let mut before = HashMap::new();
        loop {
            let rows = sample(args, &engine, &mut before).await?;
            let text = render(args, &rows)?;
            if !args.no_stream && !args.no_reset && args.format.is_none() && std::io::stdout().is_terminal() {
                ui::say(&format!("{CLEAR}{text}"));
            } else {
                ui::say(&text);
            }
            if args.no_stream {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(args.interval.max(1).into())).await;
        }
    })?
}

/// When a VM was measured last, and how long its container had had processors.
type Before = HashMap<String, (Instant, u64)>;

async fn sample(args: &StatsArgs, engine: &Engine, before: &mut Before) -> Result<Vec<Value>, Failure> {
    let every = args.names.is_empty();
    let names = if every {
        let running = engine.store().vms()?.into_iter().filter(fcvm_store::VmDir::is_owned);
        running.map(|vm| vm.id().to_string()).collect()
    } else {
        args.names.clone()
    };
    let mut rows = Vec::new();
    for name in names {
        match engine.usage(&name).await {
            Ok(usage) => rows.push(row(&usage, args, before)),
            // Ended in this moment, or not begun.
            Err(Error::NotRunning(_) | Error::Refused(_) | Error::Lost | Error::Store(_)) if every => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rows)
}

fn render(args: &StatsArgs, rows: &[Value]) -> Result<String, Failure> {
    Ok(match args.format.as_deref() {
        Some("json") => {
            let json: Vec<&Value> = rows.iter().map(|row| &row["json"]).collect();
            serde_json::to_string_pretty(&json)?
        }
        None | Some("table") => {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let cells = |row: &Value| FIELDS.map(|field| text(&row[field])).to_vec();
            table::render(&TITLES, &rows.iter().map(cells).collect::<Vec<_>>())
        }
        Some(template) => Template::parse(template)?.render(rows)?,
    })
}

fn row(usage: &VmUsage, args: &StatsArgs, before: &mut Before) -> Value {
    let VmUsage { record, guest, host } = usage;
    let now = Instant::now();
    let up_ns = record.started_ns.map_or(1, |started| (time::now_ns() - started).max(1)) as f64;
    let average = guest.cpu_ns as f64 * 100.0 / up_ns;
    let last = before.insert(record.spec.id.to_string(), (now, guest.cpu_ns));
    let current = last.map_or(average, |(then, cpu_ns)| {
        guest.cpu_ns.saturating_sub(cpu_ns) as f64 * 100.0 / now.duration_since(then).as_nanos().max(1) as f64
    });
    let percent = |value: f64| format!("{value:.2}%");
    let both = |one: u64, other: u64| format!("{} / {}", size(one), size(other));
    let memory = percent(guest.memory as f64 * 100.0 / guest.memory_limit.max(1) as f64);
    let id = if args.no_trunc { record.spec.id.as_str() } else { record.spec.id.short() };
    let vm = json!({
        "Memory": record.spec.machine.memory.bytes(),
        "HostMemory": host.memory,
        "HostCpuNs": host.cpu_ns,
        "HostDisk": host.disk,
    });
    let (usage_of, net, block) = (
        both(guest.memory, guest.memory_limit),
        both(guest.net_in, guest.net_out),
        both(guest.disk_in, guest.disk_out),
    );
    let cpu_time = seconds(guest.cpu_ns);
    json!({
        "ID": id, "Name": record.spec.name, "CPUPerc": percent(current), "MemUsage": usage_of,
        "MemUsageBytes": format!("{}B / {}B", guest.memory, guest.memory_limit), "MemPerc": memory, "NetIO": net,
        "BlockIO": block, "PIDS": guest.pids, "CPUTime": cpu_time, "AVGCPU": percent(average), "Vm": vm,
        "json": {
            "id": id, "name": record.spec.name, "cpu_time": cpu_time, "cpu_percent": percent(current),
            "avg_cpu": percent(average), "mem_usage": usage_of, "mem_percent": memory, "net_io": net,
            "block_io": block, "pids": guest.pids, "vm": vm,
        },
    })
}

/// Without the space that lists of images have.
fn size(bytes: u64) -> String {
    time::size(bytes).replace(' ', "")
}

/// As Go prints a duration of less than an hour, in seconds.
fn seconds(ns: u64) -> String {
    format!("{:.6}s", ns as f64 / 1e9)
}
