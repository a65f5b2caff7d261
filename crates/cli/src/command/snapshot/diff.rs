//! `snapshot diff`.

use super::{capture, request};
use crate::args::DiffArgs;
use crate::error::Failure;
use crate::ui::{self, time};
use fcvm_engine::Engine;
use fcvm_engine::snapshot::{Comings, Difference, Quiesce, difference};
use fcvm_image::changes::Change;
use fcvm_proto::census::{Listener, Running};
use fcvm_proto::message::Transport;
use fcvm_store::snapshot::{ForkHold, Holds, Kind, SnapshotDir};
use fcvm_vmm::memory::Differing;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One of the two that are compared.
struct Side {
    snapshot: SnapshotDir,
    /// Of a VM: its snapshot goes with this.
    _hold: Option<ForkHold>,
}

pub(super) fn diff(args: &DiffArgs, engine: &Engine) -> Result<(), Failure> {
    let (before, after) = (side(&args.before, engine)?, side(&args.after, engine)?);
    let found = difference(&before.snapshot, &after.snapshot)?;
    if args.json {
        ui::say(&serde_json::to_string_pretty(&found)?);
    } else {
        lines(&found).iter().for_each(|line| ui::say(line));
    }
    Ok(())
}

fn side(text: &str, engine: &Engine) -> Result<Side, Failure> {
    let missing = match engine.store().find_snapshot(text) {
        Ok(snapshot) => return Ok(Side { snapshot, _hold: None }),
        Err(error @ fcvm_store::Error::NoSuchSnapshot(_)) => error,
        Err(error) => return Err(error.into()),
    };
    if engine.store().find_vm(text).is_err() {
        return Err(Failure::new(format!("{missing}, and there is no VM of that name")));
    }
    // Its disk is read: what the guest has not written back would be missing.
    let request = request(Kind::Fork, BTreeMap::new(), (Quiesce::Yes, Holds::Machine))?;
    let hold = engine.store().hold_fork(&request.id)?;
    let captured = capture(engine, text, request)?;
    Ok(Side { snapshot: engine.store().snapshot(&captured.id)?, _hold: Some(hold) })
}

fn lines(found: &Difference) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for file in &found.files {
        let letter = match file.change {
            Change::Added => 'A',
            Change::Changed => 'C',
            Change::Deleted => 'D',
        };
        lines.push(format!("{letter} {}", ui::visible(&file.path.to_string_lossy())));
    }
    let process = |process: &Running| format!("process {} {}", process.pid, ui::visible(&process.command));
    lines.extend(both(found.processes.as_ref(), "processes", process));
    lines.extend(both(found.listeners.as_ref(), "listening sockets", listener));
    lines.extend(found.memory.map(|Differing { differing, of }| {
        format!("{differing} of {of} pages of memory differ ({})", time::size(differing * 4096))
    }));
    lines
}

fn both<T>(found: Option<&Comings<T>>, what: &str, line: impl Fn(&T) -> String) -> Vec<String> {
    let Some(found) = found else { return vec![format!("? a snapshot does not tell its {what}")] };
    let gone = found.gone.iter().map(|gone| format!("- {}", line(gone)));
    gone.chain(found.come.iter().map(|come| format!("+ {}", line(come)))).collect()
}

fn listener(listener: &Listener) -> String {
    let protocol = match listener.protocol {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    format!("listens {protocol} {}", SocketAddr::new(listener.address, listener.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_image::changes::ChangedFile;

    #[test]
    fn everything_has_a_line() {
        let listener = Listener { protocol: Transport::Tcp, address: [0, 0, 0, 0].into(), port: 80 };
        let found = Difference {
            files: vec![ChangedFile { path: "/etc/x\u{1b}[2J".into(), change: Change::Added }],
            processes: None,
            listeners: Some(Comings { come: vec![listener.clone()], gone: vec![listener] }),
            memory: Some(Differing { differing: 2, of: 9 }),
        };
        let expected = [
            r"A /etc/x\u{1b}[2J",
            "? a snapshot does not tell its processes",
            "- listens tcp 0.0.0.0:80",
            "+ listens tcp 0.0.0.0:80",
            "2 of 9 pages of memory differ (8.19 kB)",
        ];
        assert_eq!(lines(&found), expected);
    }
}
