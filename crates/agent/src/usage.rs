//! What the container uses and what runs in it, read from the kernel's files. What is not there is 0 or unnamed.

use crate::{cgroup, files};
use fcvm_link::{Stream, StreamError};
use fcvm_proto::usage::{Process, Processes, Usage};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use tokio::task::spawn_blocking;

/// Processes of one message, and characters of a command: together they fit a frame.
const PROCESSES: usize = 16;
const COMMAND: usize = 500;
/// The largest `/etc/passwd` that is looked at.
const LARGEST: usize = 4 << 20;
/// A sector in the kernel's counts of disks, in bytes.
const SECTOR: u64 = 512;
/// The image and what is written over it.
const DISKS: [&str; 2] = ["vdb", "vdc"];

/// Measures the container.
pub(crate) fn measure() -> Usage {
    let read = |name: &str| fs::read_to_string(Path::new(cgroup::CONTAINER).join(name)).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let (net_in, net_out) = network(&fs::read_to_string("/proc/net/dev").unwrap_or_default());
    let (disk_in, disk_out) = disks();
    let machine = keyed(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal:").unwrap_or(0) * 1024;
    Usage {
        cpu_ns: keyed(&read("cpu.stat"), "usage_usec").unwrap_or(0) * 1000,
        memory: number(&read("memory.current")).unwrap_or(0),
        memory_limit: number(&read("memory.max")).map_or(machine, |limit| limit.min(machine)),
        pids: number(&read("pids.current")).unwrap_or(0),
        net_in,
        net_out,
        disk_in,
        disk_out,
    }
}

/// The number behind a word at the beginning of a line.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes in and out of all interfaces but the loopback's.
fn network(table: &str) -> (u64, u64) {
    let counts = table.lines().filter_map(|line| {
        let (name, counts) = line.split_once(':')?;
        let counts: Vec<u64> = counts.split_whitespace().map_while(|count| count.parse().ok()).collect();
        (name.trim() != "lo").then_some((*counts.first()?, *counts.get(8)?))
    });
    counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
}

fn disks() -> (u64, u64) {
    let counts = DISKS.iter().filter_map(|disk| {
        let text = fs::read_to_string(format!("/sys/block/{disk}/stat")).ok()?;
        let counts: Vec<u64> = text.split_whitespace().map_while(|count| count.parse().ok()).collect();
        Some((counts.get(2)? * SECTOR, counts.get(6)? * SECTOR))
    });
    counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1))
}

/// Answers with the processes of the container, given by its first one.
pub(crate) async fn answer_processes(first: Option<i32>, stream: Stream) {
    let (sender, mut receiver) = stream.split();
    let sent = async {
        let Some(first) = first else { return Ok(()) };
        // The names may be in a volume, and who is looked at may wait for one.
        let (uptime, processes) = spawn_blocking(move || processes(first)).await.unwrap_or_default();
        for part in processes.chunks(PROCESSES) {
            sender.message(&Processes { uptime, processes: part.to_vec() }).await?;
        }
        Ok::<_, StreamError>(())
    };
    if sent.await.is_ok() {
        sender.finish();
        let _ = receiver.recv().await;
    }
}

/// The time since the machine started, in hundredths of a second, and the processes of a container given by its first one.
fn processes(first: i32) -> (u64, Vec<Process>) {
    let names = Names::of(first);
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime = uptime.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(0) * 100;
    let all = cgroup::processes_below(Path::new(cgroup::CONTAINER));
    (uptime, all.into_iter().filter_map(|pid| process(pid, &names)).collect())
}

/// Users and groups of the image by their numbers.
struct Names {
    users: HashMap<String, String>,
    groups: HashMap<String, String>,
}

impl Names {
    fn of(first: i32) -> Self {
        let root = format!("/proc/{first}/root");
        let read = |name| files::read_beneath(Path::new(&root), name, LARGEST).unwrap_or_default();
        Self { users: names(&read("etc/passwd")), groups: names(&read("etc/group")) }
    }
}

fn names(table: &str) -> HashMap<String, String> {
    let row = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.to_owned(), name))
    };
    // Of several names for one number the first counts.
    table.lines().rev().filter_map(row).collect()
}

/// One that has ended meanwhile is none.
fn process(pid: i32, names: &Names) -> Option<Process> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let (status, stat, line) = (read("status")?, read("stat")?, read("cmdline")?);
    let (status, stat) = (String::from_utf8_lossy(&status), String::from_utf8_lossy(&stat));
    // proc(5): the name is field 2, in brackets, and may hold any.
    let (name, rest) = (stat.get(stat.find('(')? + 1..stat.rfind(')')?)?, stat.get(stat.rfind(')')? + 1..)?);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |field_number: usize| field(field_number).and_then(|text| text.parse::<i64>().ok());
    let count = |field_number: usize| number(field_number).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
    let command = if words.is_empty() { format!("[{name}]") } else { words };
    let id = |key: &str| status_line(&status, key).and_then(|line| line.split_whitespace().next()).unwrap_or("0");
    let named = |table: &HashMap<String, String>, id: &str| table.get(id).cloned().unwrap_or_else(|| id.to_owned());
    Some(Process {
        pid: inside(pid)?,
        ppid: number(4).and_then(|parent| inside(i32::try_from(parent).ok()?)).unwrap_or(0),
        system_pid: pid,
        pgid: number(5).and_then(|group| i32::try_from(group).ok()).unwrap_or(0),
        user: named(&names.users, id("Uid:")),
        group: named(&names.groups, id("Gid:")),
        state: field(3)?.to_owned(),
        nice: number(19).and_then(|nice| i32::try_from(nice).ok()).unwrap_or(0),
        cpu: count(14) + count(15),
        started: count(22),
        tty: terminal(number(7).unwrap_or(0)),
        virtual_kib: count(23) / 1024,
        resident_kib: keyed(&status, "VmRSS:").unwrap_or(0),
        name: name.to_owned(),
        command: command.chars().take(COMMAND).collect(),
    })
}

fn status_line<'s>(status: &'s str, key: &str) -> Option<&'s str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// The number in the innermost namespace, of a process that is in one below the guest's.
fn inside(pid: i32) -> Option<i32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let numbers = String::from_utf8_lossy(&status);
    let numbers: Vec<&str> = status_line(&numbers, "NSpid:")?.split_whitespace().collect();
    if numbers.len() < 2 { None } else { numbers.last()?.parse().ok() }
}

/// A terminal by its device's number.
fn terminal(device: i64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => format!("tty{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let table = "Inter-|   Receive  | Transmit\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  tap0: 100 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        assert_eq!(network(table), (100, 7));
        assert_eq!(network("nonsense\n:\n"), (0, 0));
        assert_eq!(keyed("usage_usec 12\nuser_usec 3\n", "usage_usec"), Some(12));
        assert_eq!(keyed("usage_usec\n", "usage_usec"), None);
    }

    #[test]
    fn users_are_named_by_the_first_of_their_names() {
        let names = names("root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\n");
        assert_eq!(names.get("0").map(String::as_str), Some("root"));
    }

    #[test]
    fn terminals_are_named() {
        assert_eq!(
            (terminal(0), terminal(136 << 8 | 3), terminal(4 << 8 | 1)),
            ("?".into(), "pts/3".into(), "tty1".into())
        );
    }
}
