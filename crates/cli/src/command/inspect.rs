//! `inspect`: all about VMs (in podman's shape, with a `Vm` object) or images.

use super::list::status;
use crate::args::InspectArgs;
use crate::error::Failure;
use crate::settings;
use crate::ui::template::Template;
use crate::ui::{self, time};
use fcvm_engine::Engine;
use fcvm_spec::Phase;
use fcvm_store::VmRecord;
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn inspect(args: &InspectArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let rows: Vec<Value> = args.names.iter().map(|name| inspect_one(&engine, name)).collect::<Result<_, _>>()?;
    let text = match args.format.as_deref() {
        None | Some("json") => serde_json::to_string_pretty(&rows)?,
        Some(template) => Template::parse(template)?.render(&rows)?,
    };
    ui::say(&text);
    Ok(())
}

fn inspect_one(engine: &Engine, name: &str) -> Result<Value, Failure> {
    match engine.store().find_vm(name) {
        Ok(vm) => Ok(describe_vm(&vm.record()?)),
        Err(fcvm_store::Error::NoSuchVm(_)) => match engine.images().store().lookup(name) {
            Ok(image) => Ok(describe_image(&image)?),
            Err(_) => Err(Failure::new(format!("no VM and no image is named {name:?}"))),
        },
        Err(error) => Err(error.into()),
    }
}

fn describe_vm(record: &VmRecord) -> Value {
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
            "Running": matches!(record.phase, Phase::Running | Phase::Stopping),
            "Pid": if record.phase.is_live() { record.owner.pid } else { 0 },
            "ExitCode": ended.map_or(0, |ended| ended.code),
            "OOMKilled": ended.is_some_and(|ended| ended.oom_killed),
            "Error": ended.and_then(|ended| ended.reason.clone()).unwrap_or_default(),
            "StartedAt": record.started_ns.map(time::rfc3339),
            "FinishedAt": ended.map(|ended| time::rfc3339(ended.at_ns)),
        },
        "Image": record.image_digest,
        "ImageName": spec.image,
        "Config": {
            "Hostname": container.hostname.as_deref().unwrap_or(spec.id.short()),
            "User": container.user.clone().unwrap_or_default(),
            "Env": container.env,
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
            "ReadonlyRootfs": container.read_only,
            "CapAdd": container.cap_add,
            "CapDrop": container.cap_drop,
            "NetworkMode": spec.network.to_string(),
            "AutoRemove": spec.removal == fcvm_spec::Removal::Automatic,
        },
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
        },
    })
}

/// Podman's shape: `{"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}`.
fn ports(record: &VmRecord) -> Value {
    let mut ports = Map::new();
    for mapping in &record.ports {
        let key = format!("{}/{}", mapping.container_port, mapping.protocol);
        let host = json!({ "HostIp": mapping.host_ip.to_string(), "HostPort": mapping.host_port.to_string() });
        if let Value::Array(hosts) = ports.entry(key).or_insert_with(|| json!([])) {
            hosts.push(host);
        }
    }
    Value::Object(ports)
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
