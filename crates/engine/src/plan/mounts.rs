//! The mounts of the container, in the order in which crun makes them: the system's, the small files of `/etc`, what was
//! asked for, what clones are given.

use super::oci::AGENT_DIR;
use fcvm_proto::plan::{Keeper, Place};
use fcvm_spec::{
    ContainerSpec, DiskSpec, VolumeBeginning, VolumeOwner, VolumeRights, VolumeSource, VolumeSpec, VolumeView,
};
use serde_json::{Value, json};

/// Where the container finds what its machine was given when it was restored.
const GIVEN: &str = "/run/fcvm";

pub(super) fn mounts(asked: &ContainerSpec, disks: &[DiskSpec]) -> Vec<Value> {
    let given = ["bind", "rprivate", "ro", "nosuid", "noexec", "nodev"];
    let mut mounts = system(asked.privileged);
    mounts.extend(small_files());
    mounts.extend(writable(asked));
    mounts.extend(wanted(asked, disks));
    // What a clone is given appears here. After the others, which may lie below it.
    mounts.push(mount(GIVEN, "bind", &format!("{AGENT_DIR}/given"), &given));
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": kind, "source": source, "options": options })
}

fn system(privileged: bool) -> Vec<Value> {
    let rights = if privileged { "rw" } else { "ro" };
    let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        match privileged {
            // Every device of the guest; none is the host's.
            true => mount("/dev", "devtmpfs", "devtmpfs", &["nosuid", "strictatime"]),
            false => mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        },
        mount("/dev/pts", "devpts", "devpts", &terminals),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", rights]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", rights]),
    ]
}

/// The files that say who the guest is.
fn small_files() -> impl Iterator<Item = Value> {
    let options = ["bind", "rprivate", "nosuid", "noexec", "nodev"];
    let names = ["hosts", "resolv.conf", "hostname", "machine-id"];
    names.into_iter().map(move |name| mount(&format!("/etc/{name}"), "bind", &format!("{AGENT_DIR}/{name}"), &options))
}

/// A read-only container keeps the places that every program expects to write to, as podman's does.
fn writable(asked: &ContainerSpec) -> impl Iterator<Item = Value> {
    let places = if asked.read_only { ["/tmp", "/var/tmp", "/run"].as_slice() } else { &[] };
    let free = places.iter().filter(|path| !asked.tmpfs.iter().any(|tmpfs| tmpfs.path == **path));
    free.map(|path| mount(path, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777"]))
}

/// File systems in memory, volumes and disks.
fn wanted<'a>(asked: &'a ContainerSpec, disks: &'a [DiskSpec]) -> impl Iterator<Item = Value> + 'a {
    let in_memory = asked.tmpfs.iter().map(|tmpfs| {
        let options = ["nosuid", "nodev"].into_iter().chain(tmpfs.options.iter().map(String::as_str));
        (&tmpfs.path, mount(&tmpfs.path, "tmpfs", "tmpfs", &options.collect::<Vec<_>>()))
    });
    let volumes = asked.volumes.iter().enumerate().map(|(number, volume)| {
        (&volume.target, mount(&volume.target, "bind", &source(number, volume), &options(volume)))
    });
    let disks = disks.iter().enumerate().map(|(number, disk)| {
        let source = format!("{AGENT_DIR}/disks/{number}");
        let options = ["bind", "rprivate", "nosuid", "nodev", if disk.read_only { "ro" } else { "rw" }];
        (&disk.target, mount(&disk.target, "bind", &source, &options))
    });
    let mut wanted: Vec<_> = in_memory.chain(volumes).chain(disks).collect();
    // One may lie in another, whichever was named first.
    wanted.sort_by_key(|(path, _)| path.split('/').count());
    wanted.into_iter().map(|(_, mount)| mount)
}

/// Where a volume is in the guest.
fn source(number: usize, volume: &VolumeSpec) -> String {
    match keeper(volume) {
        Keeper::Host => format!("{AGENT_DIR}/volumes/{number}"),
        Keeper::View => format!("{AGENT_DIR}/views/{number}"),
        Keeper::Scratch => format!("{AGENT_DIR}/scratch/volumes/{number}"),
    }
}

fn keeper(volume: &VolumeSpec) -> Keeper {
    match (&volume.source, volume.view) {
        (VolumeSource::Own, _) => Keeper::Scratch,
        (_, VolumeView::Fork { .. }) => Keeper::View,
        (_, VolumeView::Shared) => Keeper::Host,
    }
}

/// The volumes that the guest has to make ready.
pub(super) fn places(asked: &ContainerSpec) -> Vec<Place> {
    let place = |(number, volume): (usize, &VolumeSpec)| {
        let place = Place {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            target: volume.target.clone(),
            keeper: keeper(volume),
            copy: volume.beginning == VolumeBeginning::FromImage,
            chown: volume.owner == VolumeOwner::Container,
        };
        (place.keeper != Keeper::Host || place.copy || place.chown).then_some(place)
    };
    asked.volumes.iter().enumerate().filter_map(place).collect()
}

fn options(volume: &VolumeSpec) -> Vec<&'static str> {
    let VolumeRights { exec, suid, dev } = volume.rights;
    let given = [(volume.read_only, "ro"), (!exec, "noexec"), (!suid, "nosuid"), (!dev, "nodev")];
    ["bind", "rprivate"].into_iter().chain(given.into_iter().filter(|(is, _)| *is).map(|(_, option)| option)).collect()
}
