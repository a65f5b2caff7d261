//! `HostConfig`: what podman's host is asked for, and what that is for a machine.

use crate::command::list::ports;
use fcvm_engine::Engine;
use fcvm_spec::{Removal, VolumeSpec};
use fcvm_store::{VmDir, VmRecord};
use serde_json::{Map, Value, json};

/// Describes it, with what the container's engine is given.
pub(super) fn describe(vm: &VmDir, record: &VmRecord, container: &Value, engine: &Engine) -> Value {
    let (spec, asked) = (&record.spec, &record.spec.container);
    let named = |names: &[String]| names.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>();
    let bind = |volume: &VolumeSpec| {
        let mode = if volume.read_only { "ro" } else { "rw" };
        let source = engine.host_path(volume).ok().flatten().unwrap_or_default();
        format!("{}:{}:{mode},rprivate,rbind", source.display(), volume.target)
    };
    let tmpfs: Map<String, Value> =
        asked.tmpfs.iter().map(|tmpfs| (tmpfs.path.clone(), tmpfs.options.join(",").into())).collect();
    let hosts = asked.add_host.iter().map(|host| {
        let address = host.address.map_or_else(|| "host-gateway".to_owned(), |address| address.to_string());
        format!("{}:{address}", host.name)
    });
    let mut config = json!({
        "Binds": asked.volumes.iter().map(bind).collect::<Vec<_>>(),
        "LogConfig": {
            "Type": "fcvm",
            "Config": null,
            "Path": vm.path().join("container.log").to_string_lossy(),
            "Tag": "",
            "Size": format!("{}B", asked.log_max_size.unwrap_or(0)),
        },
        "NetworkMode": spec.network.to_string(),
        "PortBindings": ports(record),
        "RestartPolicy": {
            "Name": if spec.restart == fcvm_spec::RestartPolicy::No { "" } else { spec.restart.name() },
            "MaximumRetryCount": spec.restart.most(),
        },
        "AutoRemove": spec.removal == Removal::Automatic,
        "CapAdd": named(&asked.cap_add),
        "CapDrop": named(&asked.cap_drop),
        "Dns": asked.dns,
        "ExtraHosts": hosts.collect::<Vec<_>>(),
        "Privileged": asked.privileged,
        "ReadonlyRootfs": asked.read_only,
        "Init": asked.init,
        "Tmpfs": tmpfs,
        "Memory": asked.memory.unwrap_or(0),
        "NanoCpus": u64::from(asked.cpu_milli.unwrap_or(0)) * 1_000_000,
        "Ulimits": ulimits(&container["process"]["rlimits"]),
    });
    for nothing in [no_sharing(), no_limits()] {
        if let (Value::Object(config), Value::Object(nothing)) = (&mut config, nothing) {
            config.extend(nothing);
        }
    }
    config
}

/// What a container may share with podman's host, and a machine with nobody.
fn no_sharing() -> Value {
    json!({
        "CgroupManager": "cgroupfs",
        "CgroupMode": "private",
        "ContainerIDFile": "",
        "VolumeDriver": "",
        "VolumesFrom": null,
        "DnsOptions": [],
        "DnsSearch": [],
        "GroupAdd": [],
        "IpcMode": "private",
        "Cgroup": "",
        "Cgroups": "default",
        "Links": null,
        "OomScoreAdj": 0,
        "PidMode": "private",
        "PublishAllPorts": false,
        "SecurityOpt": [],
        "UTSMode": "private",
        "UsernsMode": "",
        "ShmSize": 65_536_000,
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
    })
}

/// Limits of podman's host that a machine does not have.
fn no_limits() -> Value {
    json!({
        "CpuShares": 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": null,
        "BlkioDeviceReadBps": null,
        "BlkioDeviceWriteBps": null,
        "BlkioDeviceReadIOps": null,
        "BlkioDeviceWriteIOps": null,
        "CpuPeriod": 0,
        "CpuQuota": 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": "",
        "CpusetMems": "",
        "Devices": [],
        "DiskQuota": 0,
        "KernelMemory": 0,
        "MemoryReservation": 0,
        "MemorySwap": 0,
        "MemorySwappiness": 0,
        "OomKillDisable": false,
        "PidsLimit": 0,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "CgroupConf": null,
    })
}

fn ulimits(limits: &Value) -> Vec<Value> {
    // As podman, -1 for no limit.
    let amount = |value: &Value| value.as_u64().and_then(|value| i64::try_from(value).ok()).unwrap_or(-1);
    let limit = |limit: &Value| json!({ "Name": limit["type"], "Soft": amount(&limit["soft"]), "Hard": amount(&limit["hard"]) });
    limits.as_array().into_iter().flatten().map(limit).collect()
}
