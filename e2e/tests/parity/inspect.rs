//! What is told of a container and its image, field by field.

use fcvm_e2e::podman::{FLAGS, Podman};
use fcvm_e2e::{BUSYBOX, Host};
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields of podman's that are left out: `docs/inspect.md` says why.
const LEFT_OUT: [&str; 7] = [
    ".State.CgroupPath",
    ".ResolvConfPath",
    ".HostnamePath",
    ".HostsPath",
    ".OCIConfigPath",
    ".ConmonPidFile",
    ".PidFile",
];

/// What differs by nature: ids, times, processes, places, and what each one's storage and network are made of.
const OWN: [&str; 39] = [
    ".Id",
    ".Created",
    ".CreatedAt",
    ".Command",
    ".State.Pid",
    ".State.ConmonPid",
    ".State.StartedAt",
    ".State.FinishedAt",
    ".State.Health",
    ".ImageDigest",
    ".StaticDir",
    ".OCIRuntime",
    ".Driver",
    ".GraphDriver",
    ".Mounts",
    ".NetworkSettings.Ports",
    ".Config.Hostname",
    ".Config.Env",
    ".Config.Annotations",
    ".Config.CreateCommand",
    ".HostConfig.LogConfig",
    ".HostConfig.CapDrop",
    ".HostConfig.CgroupMode",
    ".HostConfig.IpcMode",
    ".HostConfig.SecurityOpt",
    ".HostConfig.Tmpfs",
    ".HostConfig.PidsLimit",
    ".HostConfig.PortBindings",
    ".ManifestType",
    ".Digest",
    ".RepoDigests",
    ".Size",
    ".VirtualSize",
    ".ExitedAt",
    ".StartedAt",
    ".Pid",
    ".Status",
    ".Containers",
    ".Networks",
];

pub(super) fn compare(podman: &Podman) {
    let host = Host::new();
    let flags = [
        "--name=web",
        "--label=tier=front",
        "--env=FOO=bar",
        "--cap-add=NET_ADMIN",
        "--cap-drop=CHOWN",
        "--volume=/tmp:/mnt:ro",
        "--tmpfs=/t",
        "--add-host=db:10.0.0.5",
        "--workdir=/tmp",
        "--stop-signal=USR1",
        "--stop-timeout=1",
        "--health-cmd=true",
        "--health-interval=1h",
        "--entrypoint=sleep",
        "--network=none",
        "--ulimit=nofile=1024:20000",
        "--ulimit=nproc=4096:4096",
    ];
    let verbs = [&["run", "-d"], &flags[..]].concat();
    let theirs_only: Vec<&str> =
        FLAGS.into_iter().filter(|flag| !flag.starts_with("--ulimit") && !flag.starts_with("--network")).collect();
    podman.podman([&verbs[..], &theirs_only, &[BUSYBOX, "1000"]].concat(), Vec::new()).ok();
    host.fcvm([&verbs[..], &[BUSYBOX, "1000"]].concat()).ok();
    for line in ["inspect web", &format!("inspect --type image {BUSYBOX}"), "ps --format json", "images --format json"]
    {
        let words: Vec<&str> = line.split(' ').collect();
        let theirs = podman.podman(&words, Vec::new()).ok();
        let ours = host.fcvm(&words).ok();
        let parsed = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap()[0].clone();
        let (theirs, ours) = (parsed(&theirs.stdout), parsed(&ours.stdout));
        let mut wrong = Vec::new();
        differences("", &theirs, &ours, &mut wrong);
        assert!(wrong.is_empty(), "{line}:\n{}", wrong.join("\n"));
        if line == "inspect web" {
            assert_eq!(variables(&ours), variables(&theirs));
        }
    }
    host.fcvm(["rm", "-f", "-t", "0", "web"]).ok();
    host.assert_clean();
}

/// The container's variables, but for those by which it can be told where it runs.
fn variables(container: &Value) -> BTreeSet<&str> {
    let variables = container["Config"]["Env"].as_array().unwrap().iter().filter_map(Value::as_str);
    let own = |variable: &&str| ["container=", "HOSTNAME=", "HOME="].iter().any(|own| variable.starts_with(own));
    variables.filter(|variable| !own(variable)).collect()
}

fn sorted(list: &[Value]) -> Vec<String> {
    let mut list: Vec<String> = list.iter().map(Value::to_string).collect();
    list.sort();
    list
}

/// Says where podman has something that is missing here, of another type, or another value.
fn differences(path: &str, theirs: &Value, ours: &Value, wrong: &mut Vec<String>) {
    let is_own = OWN.iter().any(|own| path.starts_with(own));
    match (theirs, ours) {
        _ if LEFT_OUT.contains(&path) => {}
        (Value::Object(_), Value::Object(_)) if is_own => {}
        (_, Value::Null) if !theirs.is_null() => wrong.push(format!("{path}: {theirs} is missing")),
        (Value::Object(fields), Value::Object(_)) => {
            for (name, value) in fields {
                differences(&format!("{path}.{name}"), value, &ours[name.as_str()], wrong);
            }
        }
        // What podman has in a map comes in any order.
        (Value::Array(theirs), Value::Array(ours)) if sorted(theirs) == sorted(ours) => {}
        // Nothing is as good as an empty list.
        (Value::Null, Value::Array(_) | Value::Object(_)) => {}
        _ if std::mem::discriminant(theirs) != std::mem::discriminant(ours) => {
            wrong.push(format!("{path}: {theirs} and {ours} are not alike"));
        }
        _ if is_own || theirs == ours => {}
        _ => wrong.push(format!("{path}: {theirs} there, {ours} here")),
    }
}
