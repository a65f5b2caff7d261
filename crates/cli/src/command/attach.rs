//! `attach` and `start --attach`: at a container that another process owns.

use super::owner::Starting;
use super::{block_on, exec, owner};
use crate::args::{AttachArgs, StartArgs};
use crate::detach::DetachKeys;
use crate::error::Failure;
use crate::stdio::{self, Seat, Shown, Signals, Size, Stdin};
use crate::{settings, terminal};
use fcvm_engine::{Attached, Attendance, Engine, ExecOutcome};
use fcvm_spec::VmSpec;
use std::path::Path;
use std::process::ExitCode;

/// Is at a running container until it ends or is left alone. As in podman that is success, however it ends.
pub(super) fn attach(args: &AttachArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let record = engine.store().find_vm(&args.name)?.record()?;
    let mut seat = seat(&record.spec, args.detach_keys.as_deref(), args.sig_proxy)?;
    if args.no_stdin {
        seat.stdin = Stdin::Ignored;
    }
    block_on(async {
        let attached = engine.attach(&args.name, seat.streams()).await?;
        match sit(attached, seat).await? {
            (ExecOutcome::Exited(_), _) => Ok(ExitCode::SUCCESS),
            (outcome, written) => exec::ended(outcome, &written),
        }
    })?
}

/// Starts a VM, if it does not run, and is at its container until that ends: this program ends as it does.
pub(super) fn start(name: &str, args: &StartArgs, engine: &Engine) -> Result<ExitCode, Failure> {
    let vm = engine.store().find_vm(name)?;
    let seat = seat(&vm.record()?.spec, args.detach_keys.as_deref(), args.sig_proxy.unwrap_or(true))?;
    block_on(async {
        let attached = match vm.is_owned() {
            true => engine.attach(name, seat.streams()).await?,
            false => {
                let starting = owner::begin_start(vm.id(), Attendance::Client(terminal::size()), engine)?;
                join(vm.id().as_str(), starting, &seat, engine).await?.1
            }
        };
        let (outcome, written) = sit(attached, seat).await?;
        exec::ended(outcome, &written)
    })?
}

/// How this program is at a container that is there.
fn seat(spec: &VmSpec, keys: Option<&str>, sig_proxy: bool) -> Result<Seat, Failure> {
    let terminal = spec.container.terminal;
    let keys: DetachKeys = keys.map(str::parse).transpose()?.unwrap_or_default();
    let stdin = match spec.stdin {
        fcvm_spec::Stdin::Carried if terminal => Stdin::Typed(keys),
        fcvm_spec::Stdin::Carried => Stdin::Read,
        fcvm_spec::Stdin::Null => Stdin::Ignored,
    };
    Ok(Seat {
        stdin,
        size: if terminal { Size::Followed } else { Size::Ignored },
        shown: Shown::ALL,
        signals: if sig_proxy { Signals::Forwarded } else { Signals::Own },
    })
}

/// Attaches to a container that waits for that before it runs; returns the VM's id too.
pub(super) async fn join(
    vm: &str,
    mut starting: Starting,
    seat: &Seat,
    engine: &Engine,
) -> Result<(String, Attached), Failure> {
    starting.await_listening()?;
    let attached = engine.attach(vm, seat.streams()).await;
    // What the owner says of a start that failed is more than that it is gone.
    let started = tokio::task::spawn_blocking(move || starting.await_started()).await;
    let id = started.expect("waiting for a program does not panic")?;
    Ok((id, attached?))
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
