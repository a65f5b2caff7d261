//! A VM in the shape of podman's containers, with what only VMs have under `Vm`. A field of podman's that means nothing
//! here has podman's value for nothing; the few that are left out are in docs/inspect.md.

use super::host_config;
use crate::command::list::{ports, status};
use crate::ui::time;
use fcvm_engine::Engine;
use fcvm_engine::plan::{HostFacts, compute};
use fcvm_image::Image;
use fcvm_proto::message::TerminalSize;
use fcvm_spec::{HealthAsked, HealthSpec, Phase, Stdin, VolumeRights, VolumeSource, VolumeSpec, VolumeView};
use fcvm_store::{Health, HealthRecord, VmDir, VmRecord};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Podman's word for a time that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";
/// Podman's default between the stop signal and SIGKILL, in seconds.
const STOP_TIMEOUT_S: u32 = 10;
const SIGTERM: i32 = 15;

/// Describes a VM; of one whose image is gone, what its record knows.
pub(super) fn describe(vm: &VmDir, record: &VmRecord, engine: &Engine) -> Value {
    let image = record.image_digest.as_deref().and_then(|digest| engine.images().store().lookup(digest).ok());
    let container = image.as_ref().map_or(Value::Null, |image| container(record, image));
    let spec = &record.spec;
    let capabilities = &container["process"]["capabilities"]["bounding"];
    json!({
        "Id": spec.id,
        "Created": time::rfc3339(record.created_ns),
        "Path": record.command.first().cloned().unwrap_or_default(),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": state(record),
        "Image": record.image_digest.as_deref().unwrap_or_default().trim_start_matches("sha256:"),
        "ImageDigest": image.as_ref().and_then(|image| image.manifest.clone()).unwrap_or_default(),
        "ImageName": spec.image,
        "Rootfs": "",
        "Pod": "",
        "StaticDir": vm.path().to_string_lossy(),
        "OCIRuntime": match spec.container.engine {
            fcvm_spec::Engine::Crun => "crun",
            fcvm_spec::Engine::Podman => "podman",
        },
        "Name": spec.name,
        "RestartCount": record.restarts,
        "Driver": "erofs",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "EffectiveCaps": sorted(capabilities),
        "BoundingCaps": sorted(capabilities),
        "ExecIDs": [],
        "GraphDriver": { "Name": "erofs", "Data": null },
        "Mounts": spec.container.volumes.iter().map(|volume| mount(volume, engine)).collect::<Vec<_>>(),
        "Dependencies": [],
        "NetworkSettings": network(record),
        "Namespace": "",
        "IsInfra": false,
        "IsService": false,
        "Config": config(record, image.as_ref(), &container),
        "HostConfig": host_config::describe(vm, record, &container, engine),
        "Vm": machine(record),
    })
}

/// The configuration of the container that its engine is given.
fn container(record: &VmRecord, image: &Image) -> Value {
    let facts = HostFacts { time_ns: 0, entropy: [0; 32], terminal: TerminalSize::default() };
    compute(&record.spec, &image.config, &facts).map_or(Value::Null, |plan| plan.container.oci)
}

fn sorted(names: &Value) -> Vec<String> {
    let mut names: Vec<String> = serde_json::from_value(names.clone()).unwrap_or_default();
    names.sort();
    names
}

fn state(record: &VmRecord) -> Value {
    let ended = record.ended.as_ref();
    let pid = if record.phase.is_live() { record.owner.pid } else { 0 };
    json!({
        "OciVersion": "1.0.2-dev",
        "Status": record.phase.podman(),
        "Running": matches!(record.phase, Phase::Running | Phase::Stopping | Phase::Paused),
        "Paused": record.phase == Phase::Paused,
        "Restarting": record.phase == Phase::Restarting,
        "OOMKilled": ended.is_some_and(|ended| ended.oom_killed),
        "Dead": false,
        "Pid": pid,
        "ConmonPid": pid,
        "ExitCode": ended.map_or(0, |ended| ended.code),
        "Error": ended.and_then(|ended| ended.reason.clone()).unwrap_or_default(),
        "StartedAt": record.started_ns.map_or_else(|| NEVER.to_owned(), time::rfc3339),
        "FinishedAt": ended.map_or_else(|| NEVER.to_owned(), |ended| time::rfc3339(ended.at_ns)),
        "Health": health(record.health.as_ref()),
        "CheckpointedAt": NEVER,
        "RestoredAt": NEVER,
    })
}

fn health(health: Option<&Health>) -> Value {
    let check = |check: &HealthRecord| {
        json!({
            "Start": time::rfc3339(check.start_ns),
            "End": time::rfc3339(check.end_ns),
            "ExitCode": check.exit_code,
            "Output": check.output,
        })
    };
    match health {
        None => json!({ "Status": "", "FailingStreak": 0, "Log": null }),
        Some(health) => json!({
            "Status": health.status,
            "FailingStreak": health.failing_streak,
            "Log": health.log.iter().map(check).collect::<Vec<_>>(),
        }),
    }
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

fn network(record: &VmRecord) -> Value {
    json!({
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": ports(record),
        "SandboxKey": "",
    })
}

fn config(record: &VmRecord, image: Option<&Image>, container: &Value) -> Value {
    let (spec, asked) = (&record.spec, &record.spec.container);
    let said = image.and_then(|image| image.config.config().as_ref());
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let entrypoint = asked.entrypoint.clone().unwrap_or_else(|| list(said.and_then(|said| said.entrypoint().as_ref())));
    let command = match (asked.command.is_empty(), &asked.entrypoint) {
        (false, _) => asked.command.clone(),
        (true, None) => list(said.and_then(|said| said.cmd().as_ref())),
        (true, Some(_)) => Vec::new(),
    };
    let mut labels: BTreeMap<String, String> =
        said.and_then(|said| said.labels().clone()).unwrap_or_default().into_iter().collect();
    labels.extend(asked.labels.clone());
    let user = asked.user.as_ref().or_else(|| said.and_then(|said| said.user().as_ref()));
    let mut config = json!({
        "Hostname": asked.hostname.as_deref().unwrap_or(spec.id.short()),
        "Domainname": "",
        "User": user.map_or("", String::as_str),
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": asked.terminal,
        "OpenStdin": spec.stdin == Stdin::Carried,
        "StdinOnce": false,
        "Env": if container.is_null() { json!(asked.env) } else { container["process"]["env"].clone() },
        "Cmd": command,
        "Image": spec.image,
        "Volumes": null,
        "WorkingDir": container["process"]["cwd"].as_str().unwrap_or("/"),
        "Entrypoint": entrypoint.join(" "),
        "OnBuild": null,
        "Labels": labels,
        "Annotations": {},
        "StopSignal": asked.stop_signal.map_or(SIGTERM, fcvm_spec::Signal::number),
        "HealthcheckOnFailureAction": "none",
        "CreateCommand": asked.typed,
        "Umask": "0022",
        "Timeout": 0,
        "StopTimeout": asked.stop_timeout.unwrap_or(STOP_TIMEOUT_S),
        "Passwd": true,
        "sdNotifyMode": "container",
    });
    if let Some(healthcheck) = healthcheck(&spec.health) {
        config["Healthcheck"] = healthcheck;
    }
    config
}

/// As podman, nothing where there is no check.
fn healthcheck(asked: &HealthSpec) -> Option<Value> {
    let HealthAsked::Command(command) = &asked.check else { return None };
    let test = match command.words() {
        [shell, flag, line] if shell == "/bin/sh" && flag == "-c" => vec!["CMD-SHELL".to_owned(), line.clone()],
        words => ["CMD".to_owned()].into_iter().chain(words.iter().cloned()).collect(),
    };
    let nanoseconds = |span: Option<Duration>, default: u64| {
        span.map_or(default * 1_000_000_000, |span| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    };
    let mut healthcheck = json!({
        "Test": test,
        "Interval": nanoseconds(asked.interval, 30),
        "Timeout": nanoseconds(asked.timeout, 30),
        "Retries": asked.retries.unwrap_or(3),
    });
    if asked.start_period.is_some_and(|period| !period.is_zero()) {
        healthcheck["StartPeriod"] = nanoseconds(asked.start_period, 0).into();
    }
    Some(healthcheck)
}

fn machine(record: &VmRecord) -> Value {
    let monitor = record.monitor.as_ref();
    json!({
        "Status": status(record),
        "Cpus": record.spec.machine.cpus,
        "MemoryMiB": record.spec.machine.memory,
        "OwnerPid": record.owner.pid,
        "MonitorPid": monitor.map(|monitor| monitor.process.pid),
        "Monitor": monitor.map(|monitor| monitor.backend.clone()),
        "Accel": monitor.map(|monitor| monitor.accel.clone()),
        "Why": monitor.map(|monitor| monitor.reason.clone()),
        "Snapshot": record.restored.as_ref().map_or("", |restored| restored.snapshot.as_str()),
        "Receipt": record.restored.as_ref().and_then(|restored| restored.receipt.as_ref()),
    })
}
