//! The OCI runtime configuration of the container, but for the user's numbers, which the agent finds in the image.
//!
//! The container has the guest's network: the machine around it is its own. There is no seccomp filter either: it would
//! protect a kernel that nobody else uses, and costs every system call.

use super::mounts::mounts;
use super::process::Process;
use fcvm_proto::message::TerminalSize;
use fcvm_spec::{ContainerSpec, VmSpec};
use serde_json::{Value, json};

/// Where the agent keeps what the container is made of.
pub(super) const AGENT_DIR: &str = "/run/fcvm";

pub(super) fn configuration(spec: &VmSpec, process: Process, hostname: &str, terminal: TerminalSize) -> Value {
    let asked = &spec.container;
    let capabilities = asked.capabilities();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": asked.terminal,
            "consoleSize": { "height": terminal.rows, "width": terminal.columns },
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
        "mounts": mounts(asked, &spec.machine.disks),
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
