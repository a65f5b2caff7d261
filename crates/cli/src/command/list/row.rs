//! A VM in a list: once as podman's templates name its fields, once as podman's JSON does. They differ.

use crate::ui::time;
use fcvm_spec::{ContainerSpec, Phase};
use fcvm_store::VmRecord;
use serde_json::{Value, json};

/// What podman has for a time that has not come.
const NEVER: i64 = -62_135_596_800;

/// The fields of a template and of the tables.
pub(super) fn for_template(record: &VmRecord, whole: bool) -> Value {
    let spec = &record.spec;
    let image_id = image_id(record);
    let ports: Vec<String> = record.ports.iter().map(ToString::to_string).collect();
    json!({
        "ID": if whole { spec.id.as_str() } else { spec.id.short() },
        "Image": spec.image,
        "ImageID": if whole { image_id } else { image_id.get(..12).unwrap_or(image_id) },
        "Command": command(&record.command, whole),
        "Created": time::go(record.created_ns),
        "CreatedAt": time::go(record.created_ns),
        "CreatedHuman": ago(record.created_ns),
        "RunningFor": ago(record.created_ns),
        "StartedAt": seconds(record.started_ns),
        "Exited": !record.phase.is_live(),
        "ExitedAt": seconds(record.ended.as_ref().map(|ended| ended.at_ns)),
        "ExitCode": record.ended.as_ref().map_or(0, |ended| ended.code),
        "Status": status(record),
        "State": record.phase.podman(),
        "Ports": ports.join(", "),
        "Names": spec.name,
        "Labels": spec.container.labels,
        "Mounts": [],
        "Networks": spec.network.to_string(),
        "Pid": pid(record),
        "Pod": "",
        "PodName": "",
        "Cpus": spec.machine.cpus,
        "Memory": spec.machine.memory.to_string(),
        "Monitor": record.monitor.as_ref().map(|monitor| format!("{}/{}", monitor.backend, monitor.accel)).unwrap_or_default(),
        "OwnerPid": pid(record),
    })
}

/// An object of `--format json`, with what only VMs have under `Vm`.
pub(super) fn for_json(record: &VmRecord) -> Value {
    let spec = &record.spec;
    json!({
        "AutoRemove": spec.removal == fcvm_spec::Removal::Automatic,
        "Command": record.command,
        "CreatedAt": ago(record.created_ns),
        "Exited": !record.phase.is_live(),
        "ExitedAt": seconds(record.ended.as_ref().map(|ended| ended.at_ns)),
        "ExitCode": record.ended.as_ref().map_or(0, |ended| ended.code),
        "Id": spec.id,
        "Image": spec.image,
        "ImageID": image_id(record),
        "IsInfra": false,
        "Labels": spec.container.labels,
        "Mounts": mounts(&spec.container),
        "Names": [spec.name],
        "Namespaces": {},
        "Networks": [spec.network.to_string()],
        "Pid": pid(record),
        "Pod": "",
        "PodName": "",
        "Ports": record.ports.iter().map(port).collect::<Vec<_>>(),
        "Size": null,
        "StartedAt": seconds(record.started_ns),
        "State": record.phase.podman(),
        "Status": status(record),
        "Created": seconds(Some(record.created_ns)),
        "Vm": {
            "Cpus": spec.machine.cpus,
            "MemoryMiB": spec.machine.memory,
            "Monitor": record.monitor.as_ref().map(|monitor| monitor.backend.clone()),
            "Accel": record.monitor.as_ref().map(|monitor| monitor.accel.clone()),
        },
    })
}

/// Where something is mounted that was asked for.
fn mounts(container: &ContainerSpec) -> Vec<&str> {
    let volumes = container.volumes.iter().map(|volume| volume.target.as_str());
    volumes.chain(container.tmpfs.iter().map(|tmpfs| tmpfs.path.as_str())).collect()
}

fn port(mapping: &fcvm_spec::PortMapping) -> Value {
    json!({
        "host_ip": mapping.host_ip,
        "container_port": mapping.container_port,
        "host_port": mapping.host_port,
        "range": 1,
        "protocol": mapping.protocol,
    })
}

/// The ports in the shape of `inspect`: `{"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}`.
pub(in crate::command) fn ports(record: &VmRecord) -> Value {
    let mut ports = serde_json::Map::new();
    for mapping in &record.ports {
        let key = format!("{}/{}", mapping.container_port, mapping.protocol);
        let host = json!({ "HostIp": mapping.host_ip.to_string(), "HostPort": mapping.host_port.to_string() });
        if let Value::Array(hosts) = ports.entry(key).or_insert_with(|| json!([])) {
            hosts.push(host);
        }
    }
    Value::Object(ports)
}

/// `Up 5 seconds`, `Exited (0) 2 minutes ago`, as podman says it.
pub(in crate::command) fn status(record: &VmRecord) -> String {
    match (&record.ended, record.started_ns, record.phase) {
        (Some(ended), ..) => format!("Exited ({}) {}", ended.code, ago(ended.at_ns)),
        (None, Some(started), Phase::Running) => match &record.health {
            Some(health) => format!("Up {} ({})", since(started), health.status),
            None => format!("Up {}", since(started)),
        },
        (None, _, Phase::Paused) => "Paused".to_owned(),
        (None, _, Phase::Stopping) => "Stopping".to_owned(),
        (None, _, Phase::Restarting) => "Restarting".to_owned(),
        _ => "Created".to_owned(),
    }
}

/// The owner's process while there is one: it lives as long as the container.
fn pid(record: &VmRecord) -> u32 {
    if record.phase.is_live() { record.owner.pid } else { 0 }
}

fn image_id(record: &VmRecord) -> &str {
    record.image_digest.as_deref().map_or("", |digest| digest.trim_start_matches("sha256:"))
}

fn seconds(ns: Option<i64>) -> i64 {
    ns.map_or(NEVER, |ns| ns.div_euclid(1_000_000_000))
}

fn since(ns: i64) -> String {
    time::span((time::now_ns() - ns) / 1_000_000_000)
}

fn ago(ns: i64) -> String {
    format!("{} ago", since(ns))
}

fn command(words: &[String], whole: bool) -> String {
    /// Podman's, with its dots.
    const SHOWN: usize = 20;
    let line = words.join(" ");
    if whole || line.chars().count() <= SHOWN {
        return line;
    }
    line.chars().take(SHOWN - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_command_is_cut_as_podman_cuts_it() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(command(&words("sleep 1000"), false), "sleep 1000");
        assert_eq!(command(&words("sh -c while true; do true; done"), false), "sh -c while true;...");
        assert_eq!(command(&words("sh -c while true; do true; done"), true).len(), 31);
    }
}
