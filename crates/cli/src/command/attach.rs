//! `attach`: at a container that another process owns.

use super::{block_on, exec};
use crate::args::AttachArgs;
use crate::error::Failure;
use crate::stdio::{self, Seat, Shown, Signals, Size, Stdin};
use crate::{settings, terminal};
use fcvm_engine::{Attached, ExecOutcome};
use std::path::Path;
use std::process::ExitCode;

/// Is at a running container until it ends or is left alone. As in podman that is success, however it ends.
pub(super) fn attach(args: &AttachArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let record = engine.store().find_vm(&args.name)?.record()?;
    let terminal = record.spec.container.terminal;
    let stdin = match record.spec.stdin {
        fcvm_spec::Stdin::Carried if args.no_stdin => Stdin::Ignored,
        fcvm_spec::Stdin::Carried if terminal => Stdin::Typed(args.keys()?),
        fcvm_spec::Stdin::Carried => Stdin::Read,
        fcvm_spec::Stdin::Null => Stdin::Ignored,
    };
    let seat = Seat {
        stdin,
        size: if terminal { Size::Followed } else { Size::Ignored },
        shown: Shown::ALL,
        signals: if args.sig_proxy { Signals::Forwarded } else { Signals::Own },
    };
    block_on(async {
        let attached = engine.attach(&args.name, seat.streams()).await?;
        match sit(attached, seat).await? {
            (ExecOutcome::Exited(_), _) => Ok(ExitCode::SUCCESS),
            (outcome, written) => exec::ended(outcome, &written),
        }
    })?
}

/// Carries a container's streams to ours. The terminal is raw meanwhile if the container has one.
pub(super) async fn sit(attached: Attached, seat: Seat) -> Result<(ExecOutcome, std::io::Result<()>), Failure> {
    let raw = if seat.size == Size::Followed { terminal::Raw::enter()? } else { None };
    let (attachment, writer) = stdio::attach(&seat)?;
    let outcome = terminal::unless_ended(raw.as_ref(), seat.signals, attached.carry(attachment)).await?;
    let written = writer.finish();
    drop(raw);
    Ok((outcome?, written))
}
