//! VMs that start from a snapshot: one, or many at once.

use super::super::{block_on, exec, owner, run as running};
use crate::args::ChildArgs;
use crate::args::{CloneArgs, Place, RunPlan, SourceArgs, fresh};
use crate::detach::DetachKeys;
use crate::error::Failure;
use crate::stdio::{Seat, Shown, Signals, Size, Stdin};
use crate::ui;
use crate::ui::progress::Show;
use fcvm_engine::run::Origin;
use fcvm_engine::snapshot::{CloneAsk, clone_spec};
use fcvm_engine::{Attendance, Engine, Goal, Publish, Remove, RunRequest};
use fcvm_image::PullPolicy;
use fcvm_proto::message::Exec;
use fcvm_spec::{PortMapping, Removal, VmName, VmSpec};
use fcvm_store::snapshot::{Holds, Manifest, SnapshotDir};
use fcvm_store::{Receipt, Restored};
use serde_json::json;
use std::process::ExitCode;
use std::time::Duration;

/// `snapshot run`.
pub(super) fn run(args: CloneArgs, engine: &Engine) -> Result<ExitCode, Failure> {
    args.children.check()?;
    let snapshot = wanted(&args, engine)?;
    if args.detach || args.children.count > 1 || args.children.exec.is_some() {
        return start(&args.children, (&snapshot, args.pid), engine);
    }
    let manifest = snapshot.manifest()?;
    let mut requests = requests(&args.children, (&manifest, args.pid))?;
    let mut request = requests.remove(0);
    request.spec.stdin = if args.interactive { fcvm_spec::Stdin::Carried } else { fcvm_spec::Stdin::Null };
    let stdin = if args.interactive { Stdin::Read } else { Stdin::Ignored };
    let seat = Seat { stdin, size: Size::Ignored, shown: Shown::ALL, signals: Signals::Forwarded };
    let (place, show) = (Place::Foreground, Show::Nothing);
    running::foreground(
        engine,
        RunPlan { request, source: SourceArgs::default(), place, seat, cidfile: None, show },
        None,
    )
}

/// The snapshot that was named, or that of a process.
fn wanted(args: &CloneArgs, engine: &Engine) -> Result<SnapshotDir, Failure> {
    match (args.pid, &args.snapshot) {
        (Some(pid), _) => Ok(engine.store().snapshot(&engine.store().served_by(pid)?)?),
        (None, Some(text)) => Ok(engine.store().find_snapshot(text)?),
        (None, None) => unreachable!("one of both is required"),
    }
}

/// Starts VMs in the background, all at once, and says what became of each.
pub(super) fn start(
    args: &ChildArgs,
    (snapshot, server): (&SnapshotDir, Option<u32>),
    engine: &Engine,
) -> Result<ExitCode, Failure> {
    let manifest = snapshot.manifest()?;
    let requests = requests(args, (&manifest, server))?;
    let outcomes: Vec<Result<(), Failure>> = std::thread::scope(|scope| {
        let one = |request: &RunRequest| {
            let id = owner::run(request, engine)?;
            announce(args, &request.spec, &id, engine)
        };
        let starting: Vec<_> = requests.iter().map(|request| scope.spawn(move || one(request))).collect();
        starting.into_iter().map(|start| start.join().expect("starting a VM does not panic")).collect()
    });
    let mut code = ExitCode::SUCCESS;
    for (request, outcome) in requests.iter().zip(outcomes) {
        match outcome {
            Ok(()) if args.exec.is_some() => code = run_in(args, &request.spec, engine)?,
            Ok(()) => {}
            Err(failure) => code = failure.report(),
        }
    }
    Ok(code)
}

fn requests(args: &ChildArgs, (manifest, server): (&Manifest, Option<u32>)) -> Result<Vec<RunRequest>, Failure> {
    let mut ports = Vec::new();
    for port in &args.publish {
        ports.extend(PortMapping::parse(port)?);
    }
    if let Some(fixed) = ports.iter().find(|port| port.host_port != 0 && args.count > 1) {
        let port = fixed.host_port;
        return Err(Failure::new(format!(
            "{} VMs cannot all publish port {port}; leave the host's port out",
            args.count
        )));
    }
    let origin = Origin::Snapshot { id: manifest.id.clone(), env: args.env()?, server };
    let request = |number: u16| {
        let (id, fresh_name) = fresh()?;
        let name: VmName = match &args.name {
            Some(name) if args.count > 1 => format!("{name}-{number}").parse()?,
            Some(name) => name.parse()?,
            None => fresh_name,
        };
        let hostname = args.hostname.clone();
        let removal = if args.rm || args.exec.is_some() { Removal::Automatic } else { Removal::Keep };
        let (ports, moved) = (ports.clone(), args.moved()?);
        let spec = clone_spec(manifest, CloneAsk { id, name, hostname, ports, removal, moved })?;
        Ok(child(spec, origin.clone()))
    };
    (1..=args.count).map(request).collect()
}

fn child(spec: VmSpec, origin: Origin) -> RunRequest {
    RunRequest {
        spec,
        pull: PullPolicy::Never,
        publish: Publish::Named,
        origin,
        goal: Goal::Run,
        attendance: Attendance::Owner,
    }
}

/// Has a VM of a snapshot run a command, writes down what it used of the memory, and removes it.
pub(super) fn tune(text: &str, line: &str, engine: &Engine) -> Result<ExitCode, Failure> {
    let manifest = engine.store().find_snapshot(text)?.manifest()?;
    if manifest.holds == Holds::Disk {
        return Err(fcvm_engine::Error::OnlyADisk.into());
    }
    let (id, name) = fresh()?;
    let asked =
        CloneAsk { id, name, hostname: None, ports: Vec::new(), removal: Removal::Automatic, moved: Vec::new() };
    let origin = Origin::Snapshot { id: manifest.id.clone(), env: Vec::new(), server: None };
    let request = child(clone_spec(&manifest, asked)?, origin);
    owner::run(&request, engine)?;
    let name = request.spec.name.as_str();
    let ran = in_shell(line, name, engine);
    let tuned = block_on(engine.tune(name));
    block_on(engine.remove(name, Remove::Force(Duration::ZERO)))??;
    tuned??;
    ran
}

/// Prints the id, and the receipt where people read it.
fn announce(args: &ChildArgs, spec: &VmSpec, id: &str, engine: &Engine) -> Result<(), Failure> {
    let restored = engine.store().find_vm(id).and_then(|vm| vm.record()).ok().and_then(|record| record.restored);
    if args.json {
        ui::say(&json!({ "id": id, "name": spec.name, "restored": restored }).to_string());
        return Ok(());
    }
    if args.exec.is_none() {
        ui::say(id);
    }
    if let Some(Restored { receipt: Some(receipt), .. }) = restored
        && !args.quiet
    {
        ui::complain(&format!("{}: {}", spec.name, sentence(&receipt)));
    }
    Ok(())
}

fn sentence(receipt: &Receipt) -> String {
    let Receipt { epoch, clock_before_ns, clock_after_ns, random, hostname, machine_id, connections, .. } = receipt;
    #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
    let ms = |ns: i64| format!("{:+.1} ms", ns as f64 / 1e6);
    let volumes = match receipt.volumes {
        0 => String::new(),
        1 => "; 1 volume answers".to_owned(),
        several => format!("; {several} volumes answer"),
    };
    format!(
        "restored in {} ms; epoch {epoch}; clock {} off, now {}; random {}…; host name {hostname}; machine id {machine_id}; \
         {connections} connections reset{volumes}",
        receipt.restore_us / 1000,
        ms(*clock_before_ns),
        ms(*clock_after_ns),
        &random[..random.len().min(8)],
    )
}

/// Runs the command of `--exec` and removes the VM.
fn run_in(args: &ChildArgs, spec: &VmSpec, engine: &Engine) -> Result<ExitCode, Failure> {
    let ran = in_shell(args.exec.as_deref().unwrap_or_default(), spec.name.as_str(), engine);
    block_on(engine.remove(spec.id.as_str(), Remove::Force(Duration::ZERO)))??;
    ran
}

fn in_shell(line: &str, vm: &str, engine: &Engine) -> Result<ExitCode, Failure> {
    let command = vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()];
    exec::run(engine, vm, Exec { command, ..Exec::default() }, DetachKeys::none())
}
