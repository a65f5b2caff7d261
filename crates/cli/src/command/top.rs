//! `top`: the processes of a container, in podman's columns.

use super::{block_on, exec};
use crate::args::TopArgs;
use crate::detach::DetachKeys;
use crate::error::Failure;
use crate::settings;
use crate::ui::{self, table};
use fcvm_proto::message::Exec;
use fcvm_proto::usage::Process;
use std::path::Path;
use std::process::ExitCode;

/// A column: podman's name for it, its title, and what stands in it. Uptime is in ticks of 10 ms.
struct Column {
    name: &'static str,
    title: &'static str,
    cell: fn(&Process, u64) -> String,
}

const fn column(name: &'static str, title: &'static str, cell: fn(&Process, u64) -> String) -> Column {
    Column { name, title, cell }
}

const COLUMNS: [Column; 18] = [
    column("args", "COMMAND", |process, _| process.command.clone()),
    column("comm", "COMMAND", |process, _| process.name.clone()),
    column("etime", "ELAPSED", |process, uptime| duration(uptime.saturating_sub(process.started))),
    column("group", "GROUP", |process, _| process.group.clone()),
    column("hpid", "HPID", |process, _| process.system_pid.to_string()),
    column("nice", "NI", |process, _| process.nice.to_string()),
    column("pcpu", "%CPU", share),
    column("pgid", "PGID", |process, _| process.pgid.to_string()),
    column("pid", "PID", |process, _| process.pid.to_string()),
    column("ppid", "PPID", |process, _| process.ppid.to_string()),
    column("rgroup", "RGROUP", |process, _| process.group.clone()),
    column("rss", "RSS", |process, _| process.resident_kib.to_string()),
    column("ruser", "RUSER", |process, _| process.user.clone()),
    column("state", "STATE", |process, _| process.state.clone()),
    column("time", "TIME", |process, _| duration(process.cpu)),
    column("tty", "TTY", |process, _| process.tty.clone()),
    column("user", "USER", |process, _| process.user.clone()),
    column("vsz", "VSZ", |process, _| process.virtual_kib.to_string()),
];

/// What podman shows if no column is named.
const USUAL: [&str; 8] = ["user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"];

/// Lists the processes of a container.
pub(super) fn top(args: &TopArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    if args.columns.first().is_some_and(|first| first.starts_with('-')) {
        let command = std::iter::once("ps".to_owned()).chain(args.columns.iter().cloned()).collect();
        return exec::run(&engine, &args.name, Exec { command, ..Exec::default() }, DetachKeys::none());
    }
    let columns = chosen(&args.columns)?;
    let found = block_on(engine.processes(&args.name))??;
    let rows: Vec<Vec<String>> = found
        .processes
        .iter()
        .map(|process| columns.iter().map(|column| ui::visible(&(column.cell)(process, found.uptime))).collect())
        .collect();
    ui::say(&table::render(&columns.iter().map(|column| column.title).collect::<Vec<_>>(), &rows));
    Ok(ExitCode::SUCCESS)
}

/// The columns that are named, by themselves or with commas between them.
fn chosen(words: &[String]) -> Result<Vec<&'static Column>, Failure> {
    let named: Vec<&str> = words.iter().flat_map(|word| word.split(',')).filter(|name| !name.is_empty()).collect();
    let names = if named.is_empty() { &USUAL[..] } else { &named };
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> Result<&'static Column, Failure> {
    COLUMNS.iter().find(|column| column.name == name).ok_or_else(|| {
        let known = COLUMNS.map(|column| column.name).join(", ");
        Failure::new(format!("unknown column {name:?}: there are {known}"))
    })
}

fn share(process: &Process, uptime: u64) -> String {
    let lived = uptime.saturating_sub(process.started).max(1);
    format!("{:.3}", process.cpu as f64 * 100.0 / lived as f64)
}

/// Ticks of 10 ms as Go prints a duration.
fn duration(ticks: u64) -> String {
    let (minutes, ticks_left) = (ticks / 6000, ticks % 6000);
    let seconds = match ticks_left {
        0 => "0s".to_owned(),
        ticks if minutes == 0 && ticks < 100 => format!("{}ms", ticks * 10),
        ticks => format!("{}s", ticks as f64 / 100.0),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (ticks, text) in
            [(0, "0s"), (5, "50ms"), (123, "1.23s"), (6000, "1m0s"), (6150, "1m1.5s"), (360_001, "1h0m0.01s")]
        {
            assert_eq!(duration(ticks), text);
        }
    }

    #[test]
    fn columns_are_named_alone_or_together() {
        let titles = |words: &[&str]| -> Vec<&str> {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(&words).unwrap().iter().map(|column| column.title).collect()
        };
        assert_eq!(titles(&[]), ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]);
        assert_eq!(titles(&["pid,comm", "user"]), ["PID", "COMMAND", "USER"]);
        assert!(find("nope").is_err());
    }
}
