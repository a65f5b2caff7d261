//! Verbs on VMs that exist: stop, kill, rm, wait, port. Each goes on after one that failed and says all that did.

use super::block_on;
use crate::args::{KillArgs, NamesArgs, PortArgs, RmArgs, StopArgs};
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_engine::{Engine, Error, Remove};
use fcvm_spec::{Protocol, Signal};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Which VMs are meant where none is named.
#[derive(Clone, Copy)]
enum Every {
    Running,
    Any,
}

pub(super) fn stop(args: StopArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let names = names(&engine, args.names, args.all.then_some(Every::Running))?;
    let timeout = args.time.map(|seconds| Duration::from_secs(seconds.into()));
    each(&names, async |name| engine.stop(name, timeout).await.map(|_| name.to_owned()))
}

pub(super) fn kill(args: KillArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let signal: Signal = args.signal.parse()?;
    let names = names(&engine, args.names, args.all.then_some(Every::Running))?;
    each(&names, async |name| engine.kill(name, signal, false).await.map(|_| name.to_owned()))
}

pub(super) fn rm(args: RmArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    /// Podman's default for `rm -f`.
    const TIMEOUT_S: u32 = 10;
    let engine = settings::engine(data_dir)?;
    let names = names(&engine, args.names, args.all.then_some(Every::Any))?;
    let how = match args.force {
        true => Remove::Force(Duration::from_secs(args.time.unwrap_or(TIMEOUT_S).into())),
        false => Remove::IfEnded,
    };
    // With --force, as in podman, that a VM is gone already is what was wanted.
    let gone_is_fine = args.ignore || args.force;
    each(&names, async |name| match engine.remove(name, how).await {
        Err(Error::Store(fcvm_store::Error::NoSuchVm(_))) if gone_is_fine => Ok(name.to_owned()),
        removed => removed.map(|_| name.to_owned()),
    })
}

pub(super) fn wait(args: NamesArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    each(&args.names, async |name| engine.wait(name).await.map(|code| code.to_string()))
}

pub(super) fn port(args: &PortArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let record = engine.store().find_vm(&args.name)?.record()?;
    let Some(wanted) = &args.port else {
        for mapping in &record.ports {
            let host = std::net::SocketAddr::new(mapping.host_ip, mapping.host_port);
            ui::say(&format!("{}/{} -> {host}", mapping.container_port, mapping.protocol));
        }
        return Ok(());
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
    let found = record
        .ports
        .iter()
        .filter(|mapping| mapping.container_port.to_string() == number && mapping.protocol == protocol);
    let hosts: Vec<String> =
        found.map(|mapping| std::net::SocketAddr::new(mapping.host_ip, mapping.host_port).to_string()).collect();
    if hosts.is_empty() {
        return Err(Failure::new(format!("port {wanted} of VM {} is not published", args.name)));
    }
    ui::say(&hosts.join("\n"));
    Ok(())
}

fn names(engine: &Engine, named: Vec<String>, every: Option<Every>) -> Result<Vec<String>, Failure> {
    let Some(every) = every else {
        return if named.is_empty() { Err(Failure::new("name a VM, or give --all")) } else { Ok(named) };
    };
    let wanted = engine.store().vms()?.into_iter().filter(|vm| matches!(every, Every::Any) || vm.is_owned());
    Ok(wanted.map(|vm| vm.id().to_string()).collect())
}

/// Does the same to each, prints what each gives, and fails at the end if one failed.
fn each(names: &[String], act: impl AsyncFn(&str) -> Result<String, Error>) -> Result<ExitCode, Failure> {
    block_on(async {
        let mut code = ExitCode::SUCCESS;
        for name in names {
            match act(name).await {
                Ok(text) => ui::say(&text),
                Err(error) => code = Failure::from(error).report(),
            }
        }
        code
    })
}
