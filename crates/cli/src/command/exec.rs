//! `exec`: a command in a running VM.

use super::block_on;
use super::run::{SIGPIPE, is_broken_pipe};
use crate::args::{ExecArgs, environment};
use crate::error::Failure;
use crate::settings;
use crate::stdio::{self, Signals, Stdin};
use fcvm_engine::{Engine, ExecOutcome};
use fcvm_proto::message::{Exec, Place};
use std::path::Path;
use std::process::ExitCode;

/// Runs a command and ends as it ended.
pub(super) fn exec(args: ExecArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let exec = Exec {
        command: args.command,
        place: if args.vm { Place::System } else { Place::Container },
        env: environment(&args.env_file, &args.env)?,
        workdir: args.workdir,
        user: args.user,
        privileged: args.privileged,
        interactive: args.interactive,
        detach: args.detach,
    };
    run(&engine, &args.name, exec)
}

/// Runs a command in a VM with this program's streams.
pub(super) fn run(engine: &Engine, vm: &str, exec: Exec) -> Result<ExitCode, Failure> {
    let stdin = if exec.interactive && !exec.detach { Stdin::Read } else { Stdin::Ignored };
    let (outcome, writer) = block_on(async {
        let (attachment, writer) = stdio::attach(stdin, Signals::Own).map_err(Failure::from)?;
        Ok::<_, Failure>((engine.exec(vm, exec, attachment).await, writer))
    })??;
    let written = writer.finish();
    match outcome? {
        _ if is_broken_pipe(&written) => Ok(ExitCode::from(SIGPIPE)),
        ExecOutcome::Unread => Ok(ExitCode::from(SIGPIPE)),
        ExecOutcome::Exited(code) => Ok(ExitCode::from(code)),
        ExecOutcome::Failed { code, reason } => Err(Failure::with_code(code, reason)),
    }
}
