//! `exec`: a command in a running VM.

use super::block_on;
use super::run::{SIGPIPE, is_broken_pipe};
use crate::args::{ExecArgs, environment, fresh};
use crate::detach::DetachKeys;
use crate::error::Failure;
use crate::stdio::{self, Seat, Shown, Signals, Size, Stdin};
use crate::{settings, terminal, ui};
use fcvm_engine::{Engine, ExecOutcome};
use fcvm_proto::message::{Exec, Place};
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Runs a command and ends as it ended.
pub(super) fn exec(args: ExecArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let streams = args.streams.streams(&args.command)?;
    let exec = Exec {
        command: args.command,
        place: if args.vm { Place::System } else { Place::Container },
        env: environment(&args.env_file, &args.env)?,
        workdir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        interactive: streams.interactive,
        detach: args.streams.detach,
        terminal: streams.tty.then(terminal::size),
    };
    let detached = exec.detach;
    let code = run(&engine, &args.name, exec, streams.keys)?;
    if detached {
        // Podman's is of use with its service only; people count on the line.
        ui::say(fresh()?.0.as_str());
    }
    Ok(code)
}

/// Runs a command in a VM with this program's streams.
pub(super) fn run(engine: &Engine, vm: &str, exec: Exec, keys: DetachKeys) -> Result<ExitCode, Failure> {
    let is_there = exec.terminal.is_some() && !exec.detach;
    let stdin = match exec.interactive && !exec.detach {
        true if is_there => Stdin::Typed(keys),
        true => Stdin::Read,
        false => Stdin::Ignored,
    };
    let size = if is_there { Size::Followed } else { Size::Ignored };
    let raw = if is_there { terminal::Raw::enter()? } else { None };
    let (outcome, writer) = block_on(async {
        let seat = Seat { stdin, size, shown: Shown::ALL, signals: Signals::Own };
        let (attachment, writer) = stdio::attach(&seat)?;
        let outcome = terminal::unless_ended(raw.as_ref(), Signals::Own, engine.exec(vm, exec, attachment)).await?;
        Ok::<_, Failure>((outcome, writer))
    })??;
    let written = writer.finish();
    drop(raw);
    ended(outcome?, &written)
}

/// Ends as a process in the guest has ended, once what it wrote is written here too.
pub(super) fn ended(outcome: ExecOutcome, written: &io::Result<()>) -> Result<ExitCode, Failure> {
    match outcome {
        _ if is_broken_pipe(written) => Ok(ExitCode::from(SIGPIPE)),
        ExecOutcome::Unread => Ok(ExitCode::from(SIGPIPE)),
        ExecOutcome::Exited(code) => Ok(ExitCode::from(code)),
        ExecOutcome::Detached => Ok(ExitCode::SUCCESS),
        ExecOutcome::Failed { code, reason } => Err(Failure::with_code(code, reason)),
    }
}
