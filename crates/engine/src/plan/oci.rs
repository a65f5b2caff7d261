//! The OCI runtime configuration of the container, but for the user's numbers, which the agent finds in the image.
//!
//! The container has the guest's network: the machine around it is its own. There is no seccomp filter either: it would
//! protect a kernel that nobody else uses, and costs every system call.

use super::process::Process;
use fcvm_spec::{ContainerSpec, VmSpec, VolumeRights, VolumeSpec};
use serde_json::{Value, json};

/// Where the agent keeps what the container is made of.
const AGENT_DIR: &str = "/run/fcvm";
/// Where the container finds what its machine was given when it was restored.
const GIVEN: &str = "/run/fcvm";

pub(super) fn configuration(spec: &VmSpec, process: Process, hostname: &str) -> Value {
    let asked = &spec.container;
    let capabilities = asked.capabilities();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": process.args,
            "env": process.env,
            "cwd": process.workdir,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities, "inheritable": [], "ambient": [],
            },
            "rlimits": rlimits(asked),
            "noNewPrivileges": false,
        },
        "root": { "path": format!("{AGENT_DIR}/rootfs"), "readonly": asked.read_only },
        "hostname": hostname,
        "mounts": mounts(asked),
        "linux": linux(asked),
    })
}

fn rlimits(asked: &ContainerSpec) -> Vec<Value> {
    let limit =
        |name: &str, soft: u64, hard: u64| json!({ "type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard });
    let chosen = |name: &str| asked.ulimits.iter().any(|ulimit| ulimit.name == name);
    let defaults = [("nofile", 1_048_576), ("nproc", 4_194_304)];
    let defaults = defaults.iter().filter(|(name, _)| !chosen(name)).map(|(name, value)| (*name, *value, *value));
    let asked = asked.ulimits.iter().map(|ulimit| (ulimit.name.as_str(), ulimit.soft, ulimit.hard));
    defaults.chain(asked).map(|(name, soft, hard)| limit(&name.to_ascii_uppercase(), soft, hard)).collect()
}

fn mounts(asked: &ContainerSpec) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    let system = if asked.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        match asked.privileged {
            // Every device of the guest; none is the host's.
            true => mount("/dev", "devtmpfs", "devtmpfs", &["nosuid", "strictatime"]),
            false => mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        },
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", system]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", system]),
    ];
    for (inside, file) in [
        ("/etc/hosts", "hosts"),
        ("/etc/resolv.conf", "resolv.conf"),
        ("/etc/hostname", "hostname"),
        ("/etc/machine-id", "machine-id"),
    ] {
        mounts.push(mount(
            inside,
            "bind",
            &format!("{AGENT_DIR}/{file}"),
            &["bind", "rprivate", "nosuid", "noexec", "nodev"],
        ));
    }
    // A read-only container keeps the places that every program expects to write to, as podman's does.
    let writable = if asked.read_only { ["/tmp", "/var/tmp", "/run"].as_slice() } else { &[] };
    let taken = |path: &str| asked.tmpfs.iter().any(|tmpfs| tmpfs.path == path);
    for path in writable.iter().filter(|path| !taken(path)) {
        mounts.push(mount(path, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]));
    }
    let mut wanted: Vec<(&str, Value)> = Vec::new();
    for tmpfs in &asked.tmpfs {
        let options: Vec<&str> =
            ["nosuid", "nodev"].into_iter().chain(tmpfs.options.iter().map(String::as_str)).collect();
        wanted.push((&tmpfs.path, mount(&tmpfs.path, "tmpfs", "tmpfs", &options)));
    }
    for (number, volume) in asked.volumes.iter().enumerate() {
        let source = format!("{AGENT_DIR}/volumes/{number}");
        wanted.push((&volume.target, mount(&volume.target, "bind", &source, &options(volume))));
    }
    // One may lie in another, whichever was named first.
    wanted.sort_by_key(|(path, _)| path.split('/').count());
    mounts.extend(wanted.into_iter().map(|(_, mount)| mount));
    // What a clone is given appears here. After the others, which may lie below it.
    mounts.push(mount(
        GIVEN,
        "bind",
        &format!("{AGENT_DIR}/given"),
        &["bind", "rprivate", "ro", "nosuid", "noexec", "nodev"],
    ));
    mounts
}

fn options(volume: &VolumeSpec) -> Vec<&'static str> {
    let VolumeRights { exec, suid, dev } = volume.rights;
    let given = [(volume.read_only, "ro"), (!exec, "noexec"), (!suid, "nosuid"), (!dev, "nodev")];
    ["bind", "rprivate"].into_iter().chain(given.into_iter().filter(|(is, _)| *is).map(|(_, option)| option)).collect()
}

fn linux(asked: &ContainerSpec) -> Value {
    let namespaces: Vec<Value> =
        ["pid", "ipc", "uts", "mount", "cgroup"].iter().map(|kind| json!({ "type": kind })).collect();
    let mut resources = json!({});
    if let Some(bytes) = asked.memory {
        resources["memory"] = json!({ "limit": bytes });
    }
    if let Some(milli) = asked.cpu_milli {
        const PERIOD_US: u64 = 100_000;
        resources["cpu"] = json!({ "period": PERIOD_US, "quota": u64::from(milli) * PERIOD_US / 1000 });
    }
    if asked.privileged {
        resources["devices"] = json!([{ "allow": true, "access": "rwm" }]);
        return json!({ "namespaces": namespaces, "cgroupsPath": "/container", "resources": resources });
    }
    json!({
        "namespaces": namespaces,
        "cgroupsPath": "/container",
        "resources": resources,
        "maskedPaths": [
            "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
            "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/fs/selinux", "/sys/dev/block",
        ],
        "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    })
}
