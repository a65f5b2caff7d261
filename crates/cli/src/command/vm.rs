//! Verbs on VMs that exist: start, restart, stop, kill, rm, wait, port. Each goes on after one that failed and says all that did.

use super::which::{Every, which};
use super::{attach, block_on, owner};
use crate::args::{
    KillArgs, PortArgs, PruneVmsArgs, RestartArgs, RmArgs, StartArgs, StopArgs, UpdateArgs, WaitArgs, WaitCondition,
    Which, cpu_milli,
};
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_engine::{Engine, Error, Remove, WaitFor};
use fcvm_spec::{Limits, PortMapping, Signal};
use fcvm_store::HealthStatus;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Starts each in the background, by an owner of its own, or one of them with this program at it. One that runs is no error, as in podman.
pub(super) fn start(args: StartArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let names = which(args.which(), Every::Ended, &engine)?;
    match names.as_slice() {
        [name] if args.attach => return attach::start(name, &args, &engine),
        _ if args.attach => return Err(Failure::new("--attach takes one VM; start the others without it")),
        _ => {}
    }
    let mut code = 0;
    for name in names {
        match start_one(&name, &engine) {
            Ok(()) => ui::say(&name),
            Err(failure) => {
                failure.report();
                code = code.max(failure.code());
            }
        }
    }
    Ok(ExitCode::from(code))
}

fn start_one(name: &str, engine: &Engine) -> Result<(), Failure> {
    let vm = engine.store().find_vm(name)?;
    if vm.is_owned() { Ok(()) } else { owner::start(vm.id(), engine) }
}

/// Restarts those that run and starts the others.
pub(super) fn restart(mut args: RestartArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let every = if args.running { Every::Running } else { Every::Any };
    args.which.all |= args.running;
    let timeout = args.time.map(|seconds| Duration::from_secs(seconds.into()));
    let mut code = 0;
    for name in which(args.which, every, &engine)? {
        let restarted = match block_on(engine.restart(&name, timeout))? {
            Err(Error::NotRunning(_)) => start_one(&name, &engine),
            restarted => restarted.map(drop).map_err(Failure::from),
        };
        match restarted {
            Ok(()) => ui::say(&name),
            Err(failure) => {
                failure.report();
                code = code.max(failure.code());
            }
        }
    }
    Ok(ExitCode::from(code))
}

pub(super) fn pause(args: Which, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let names = which(args, Every::Running, &engine)?;
    each(&names, failure_of_ours, async |name| engine.pause(name).await.map(|_| Some(name.to_owned())))
}

pub(super) fn unpause(args: Which, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let names = which(args, Every::Paused, &engine)?;
    each(&names, failure_of_ours, async |name| engine.unpause(name).await.map(|_| Some(name.to_owned())))
}

pub(super) fn rename(vm: &str, name: &str, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    Ok(block_on(engine.rename(vm, name.parse()?))??)
}

pub(super) fn update(args: &UpdateArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let memory = args.memory.as_ref().map(|text| text.parse()).transpose()?;
    let rootfs_size = args.rootfs_size.as_ref().map(|text| text.parse()).transpose()?;
    let limits = Limits { memory, cpu_milli: args.cpus.map(cpu_milli).transpose()?, rootfs_size };
    ui::say(block_on(engine.update(&args.name, limits))??.as_str());
    Ok(())
}

/// Removes what does not run, after a question as podman asks it.
pub(super) fn prune(args: PruneVmsArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    if !args.force {
        ui::ask("WARNING! This will remove all non running containers.\nAre you sure you want to continue? [y/N] ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let all = Which { all: true, latest: false, filter: args.filter, cidfile: Vec::new(), names: Vec::new() };
    let names = which(all, Every::Ended, &engine)?;
    each(&names, failure_of_rm, async |name| match engine.remove(name, Remove::IfEnded).await {
        // Somebody else removed or started it.
        Err(Error::Store(fcvm_store::Error::NoSuchVm(_)) | Error::Running(_)) => Ok(None),
        removed => removed.map(|_| Some(name.to_owned())),
    })
}

pub(super) fn stop(args: StopArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let names = which(args.which, Every::Running, &engine)?;
    let timeout = args.time.map(|seconds| Duration::from_secs(seconds.into()));
    each(&names, failure_of_ours, async |name| match engine.stop(name, timeout).await {
        Err(Error::Store(fcvm_store::Error::NoSuchVm(_))) if args.ignore => Ok(None),
        stopped => stopped.map(|_| Some(name.to_owned())),
    })
}

pub(super) fn kill(args: KillArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let signal: Signal = args.signal.parse()?;
    let names = which(args.which, Every::Running, &engine)?;
    each(&names, failure_of_ours, async |name| engine.kill(name, signal, false).await.map(|_| Some(name.to_owned())))
}

pub(super) fn rm(args: RmArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    /// Podman's default for `rm -f`.
    const TIMEOUT_S: u32 = 10;
    let engine = settings::engine(data_dir)?;
    let names = which(args.which, Every::Any, &engine)?;
    let how = match args.force {
        true => Remove::Force(Duration::from_secs(args.time.unwrap_or(TIMEOUT_S).into())),
        false => Remove::IfEnded,
    };
    // With --force, as in podman, that a VM is gone already is what was wanted.
    let gone_is_fine = args.ignore || args.force;
    each(&names, failure_of_rm, async |name| match engine.remove(name, how).await {
        Err(Error::Store(fcvm_store::Error::NoSuchVm(_))) if gone_is_fine => Ok(None),
        removed => removed.map(|_| Some(name.to_owned())),
    })
}

/// `rm` has exit codes of its own in podman: 1 for a container that is not there, 2 for one that runs.
fn failure_of_rm(error: &Error) -> u8 {
    match error {
        Error::Store(fcvm_store::Error::NoSuchVm(_)) => 1,
        Error::Running(_) => 2,
        other => other.exit_code(),
    }
}

fn failure_of_ours(_: &Error) -> u8 {
    125
}

pub(super) fn wait(args: &WaitArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let wanted = match args.condition {
        WaitCondition::Stopped => {
            let code = async |name: &str| engine.wait(name).await.map(|code| Some(code.to_string()));
            return each(&args.names, failure_of_ours, code);
        }
        WaitCondition::Running => WaitFor::Running,
        WaitCondition::Healthy => WaitFor::Health(HealthStatus::Healthy),
        WaitCondition::Unhealthy => WaitFor::Health(HealthStatus::Unhealthy),
    };
    // Podman prints -1 for a container that goes on.
    each(&args.names, failure_of_ours, async |name| engine.wait_for(name, wanted).await.map(|()| Some("-1".to_owned())))
}

pub(super) fn port(args: &PortArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let Some(name) = &args.name else {
        for vm in engine.store().vms()?.into_iter().filter(fcvm_store::VmDir::is_owned) {
            let record = vm.record()?;
            record
                .ports
                .iter()
                .for_each(|mapping| ui::say(&format!("{}\t{}", record.spec.id.short(), published(mapping))));
        }
        return Ok(());
    };
    let record = engine.store().find_vm(name)?.record()?;
    let Some(wanted) = &args.port else {
        record.ports.iter().for_each(|mapping| ui::say(&published(mapping)));
        return Ok(());
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let is_wanted = |mapping: &&PortMapping| {
        mapping.container_port.to_string() == number && mapping.protocol.to_string() == protocol
    };
    let hosts: Vec<String> = record.ports.iter().filter(is_wanted).map(host).collect();
    if hosts.is_empty() {
        return Err(Failure::new(format!("port {wanted} of VM {name} is not published")));
    }
    ui::say(&hosts.join("\n"));
    Ok(())
}

fn published(mapping: &PortMapping) -> String {
    format!("{}/{} -> {}", mapping.container_port, mapping.protocol, host(mapping))
}

fn host(mapping: &PortMapping) -> String {
    SocketAddr::new(mapping.host_ip, mapping.host_port).to_string()
}

/// Does the same to each, prints what each gives, and fails at the end if one failed, with the highest of their codes.
fn each(
    names: &[String],
    code_of: fn(&Error) -> u8,
    act: impl AsyncFn(&str) -> Result<Option<String>, Error>,
) -> Result<ExitCode, Failure> {
    block_on(async {
        let mut code = 0;
        for name in names {
            match act(name).await {
                Ok(said) => said.iter().for_each(|text| ui::say(text)),
                Err(error) => {
                    code = code.max(code_of(&error));
                    Failure::from(error).report();
                }
            }
        }
        ExitCode::from(code)
    })
}
