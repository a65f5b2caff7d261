//! `inspect`: all about VMs (in podman's shape, with a `Vm` object) or images.

use super::list::{ports, status};
use crate::args::{InspectArgs, InspectKind};
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, time};
use fcvm_engine::Engine;
use fcvm_spec::{Phase, VolumeRights, VolumeSource, VolumeSpec, VolumeView};
use fcvm_store::{Health, HealthRecord, VmRecord};
use serde_json::{Value, json};
use std::path::Path;

/// Podman's word for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Shows what there is of what was named, and then complains about what there is not.
pub(super) fn inspect(args: &InspectArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let (mut rows, mut failure) = (Vec::new(), None);
    for name in &args.names {
        match inspect_one(&engine, name, args.kind) {
            Ok(row) => rows.push(row),
            Err(error) => failure = Some(error),
        }
    }
    let text = match args.format.as_deref() {
        None | Some("json") => serde_json::to_string_pretty(&rows)?,
        Some(template) => Template::parse(template)?.render(&rows)?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    failure.map_or(Ok(()), Err)
}

fn inspect_one(engine: &Engine, name: &str, kind: InspectKind) -> Result<Value, Failure> {
    let what = match kind {
        InspectKind::All => "VM or image",
        InspectKind::Container => "VM",
        InspectKind::Image => "image",
    };
    if kind != InspectKind::Image {
        match engine.store().find_vm(name) {
            Ok(vm) => return Ok(describe_vm(&vm.record()?, engine)),
            Err(fcvm_store::Error::NoSuchVm(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind != InspectKind::Container {
        match engine.images().store().lookup(name) {
            Ok(image) => return describe_image(&image),
            Err(fcvm_image::Error::NotFound { .. }) => {}
            // A VM's name need not be one that an image could have.
            Err(error) if kind == InspectKind::Image => return Err(error.into()),
            Err(_) => {}
        }
    }
    Err(Failure::new(format!("no such object: no {what} has the name or id {name:?}")))
}

fn describe_vm(record: &VmRecord, engine: &Engine) -> Value {
    let spec = &record.spec;
    let container = &spec.container;
    let ended = record.ended.as_ref();
    json!({
        "Id": spec.id,
        "Name": spec.name,
        "Created": time::rfc3339(record.created_ns),
        "Path": record.command.first(),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": {
            "Status": record.phase.podman(),
            "Running": matches!(record.phase, Phase::Running | Phase::Stopping | Phase::Paused),
            "Paused": record.phase == Phase::Paused,
            "Restarting": record.phase == Phase::Restarting,
            "Dead": false,
            "Pid": if record.phase.is_live() { record.owner.pid } else { 0 },
            "ExitCode": ended.map_or(0, |ended| ended.code),
            "OOMKilled": ended.is_some_and(|ended| ended.oom_killed),
            "Health": record.health.as_ref().map(health),
            "Error": ended.and_then(|ended| ended.reason.clone()).unwrap_or_default(),
            "StartedAt": record.started_ns.map_or_else(|| NEVER.to_owned(), time::rfc3339),
            "FinishedAt": ended.map_or_else(|| NEVER.to_owned(), |ended| time::rfc3339(ended.at_ns)),
        },
        "Image": record.image_digest.as_deref().map(|digest| digest.trim_start_matches("sha256:")),
        "ImageName": spec.image,
        "RestartCount": record.restarts,
        "Config": {
            "Hostname": container.hostname.as_deref().unwrap_or(spec.id.short()),
            "User": container.user.clone().unwrap_or_default(),
            "Env": container.env,
            "Entrypoint": container.entrypoint,
            "Image": spec.image,
            "OpenStdin": spec.stdin == fcvm_spec::Stdin::Carried,
            "Tty": false,
            "Cmd": record.command,
            "WorkingDir": container.workdir,
            "Labels": container.labels,
            "StopSignal": container.stop_signal,
            "StopTimeout": container.stop_timeout,
        },
        "HostConfig": {
            "Memory": container.memory.unwrap_or(0),
            "NanoCpus": u64::from(container.cpu_milli.unwrap_or(0)) * 1_000_000,
            "Privileged": container.privileged,
            "Init": container.init,
            "ReadonlyRootfs": container.read_only,
            "CapAdd": container.cap_add,
            "CapDrop": container.cap_drop,
            "NetworkMode": spec.network.to_string(),
            "RestartPolicy": { "Name": spec.restart.name(), "MaximumRetryCount": spec.restart.most() },
            "AutoRemove": spec.removal == fcvm_spec::Removal::Automatic,
        },
        "Mounts": container.volumes.iter().map(|volume| mount(volume, engine)).collect::<Vec<_>>(),
        "NetworkSettings": { "Ports": ports(record) },
        "Vm": {
            "Status": status(record),
            "Cpus": spec.machine.cpus,
            "MemoryMiB": spec.machine.memory,
            "OwnerPid": record.owner.pid,
            "MonitorPid": record.monitor.as_ref().map(|monitor| monitor.process.pid),
            "Monitor": record.monitor.as_ref().map(|monitor| monitor.backend.clone()),
            "Accel": record.monitor.as_ref().map(|monitor| monitor.accel.clone()),
            "Why": record.monitor.as_ref().map(|monitor| monitor.reason.clone()),
            "Snapshot": record.restored.as_ref().map_or("", |restored| restored.snapshot.as_str()),
            "Receipt": record.restored.as_ref().and_then(|restored| restored.receipt.as_ref()),
        },
    })
}

/// A volume in podman's shape. One of the VM's own has no place on the host.
fn mount(volume: &VolumeSpec, engine: &Engine) -> Value {
    let (kind, driver) = match volume.source {
        VolumeSource::Path(_) => ("bind", ""),
        VolumeSource::Name(_) | VolumeSource::Own => ("volume", "local"),
    };
    let VolumeRights { exec, suid, dev } = volume.rights;
    let options = [(!exec, "noexec"), (!suid, "nosuid"), (!dev, "nodev"), (true, "rbind")];
    let mut mount = json!({
        "Type": kind,
        "Source": engine.host_path(volume).ok().flatten().unwrap_or_default(),
        "Destination": volume.target,
        "Driver": driver,
        "Mode": if matches!(volume.view, VolumeView::Fork { .. }) { "fork" } else { "" },
        "Options": options.iter().filter(|(is, _)| *is).map(|(_, option)| option).collect::<Vec<_>>(),
        "RW": !volume.read_only,
        "Propagation": "rprivate",
    });
    if kind == "volume" {
        mount["Name"] = json!(volume.source.to_string());
    }
    mount
}

/// In podman's shape.
fn health(health: &Health) -> Value {
    let check = |check: &HealthRecord| {
        json!({
            "Start": time::rfc3339(check.start_ns),
            "End": time::rfc3339(check.end_ns),
            "ExitCode": check.exit_code,
            "Output": check.output,
        })
    };
    json!({
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": health.log.iter().map(check).collect::<Vec<_>>(),
    })
}

fn describe_image(image: &fcvm_image::Image) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(&image.config)?;
    if let Value::Object(fields) = &mut value {
        let config = fields.remove("config").unwrap_or(Value::Null);
        fields.insert("Config".to_owned(), config);
        fields.insert("Id".to_owned(), image.digest.trim_start_matches("sha256:").into());
        fields.insert("RepoTags".to_owned(), image.names.clone().into());
        fields.insert("Size".to_owned(), image.size.into());
        fields.insert("Disk".to_owned(), image.disk.to_string_lossy().into());
    }
    Ok(value)
}
