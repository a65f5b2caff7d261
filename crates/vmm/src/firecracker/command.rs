//! What Firecracker is told: its arguments and its calls, pure functions of the machine.
//!
//! Fields and paths are those of its `firecracker.yaml`. A field that some supported version lacks is not sent: bodies
//! with unknown fields are refused.

use super::api::{Call, Method};
use super::arch;
use super::workspace::{API, LINK, PLACE};
use crate::{Access, LINK_VSOCK_PORT, MachineSpec, Origin, Saved};
use fcvm_spec::PageSize;
use fcvm_sys::jail::{Entry, EntryKind};
use serde_json::{Value, json};
use std::ffi::OsString;

/// What Firecracker inherits, and finds in its workspace by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inherited {
    /// Where it writes its log.
    Log,
    /// Where it writes what it counts.
    Metrics,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// The memory of a saved machine.
    Memory,
    /// The state of its devices.
    Devices,
    /// A disk, by its index.
    Disk(usize),
    /// The socket that the guest dials, which is the owner's.
    Listener,
    /// The socket to which it says where it has the memory, when others bring the pages.
    Pager,
}

impl Inherited {
    /// Its name in the workspace. Those of disks are in saved machines, for ever.
    pub(super) fn name(self) -> String {
        match self {
            Self::Log => "log".to_owned(),
            Self::Metrics => "metrics".to_owned(),
            Self::Kernel => "kernel".to_owned(),
            Self::Initramfs => "initramfs".to_owned(),
            Self::Memory => "memory".to_owned(),
            Self::Devices => "devices".to_owned(),
            Self::Disk(index) => format!("disk{index}"),
            Self::Listener => format!("{LINK}_{LINK_VSOCK_PORT}"),
            Self::Pager => "pager".to_owned(),
        }
    }
}

/// Returns what Firecracker inherits for a machine, in the order of its descriptors.
pub(super) fn inherited(spec: &MachineSpec) -> Vec<Inherited> {
    use Inherited::{Devices, Disk, Initramfs, Kernel, Listener, Log, Memory, Metrics, Pager};
    let origin: &[Inherited] = match &spec.origin {
        Origin::Boot { .. } => &[Kernel, Initramfs],
        Origin::Saved(Saved { server: None, .. }) => &[Memory, Devices],
        Origin::Saved(Saved { server: Some(_), .. }) => &[Pager, Devices],
    };
    [Log, Metrics, Listener].into_iter().chain(origin.iter().copied()).chain((0..spec.disks.len()).map(Disk)).collect()
}

/// Returns the names by which it finds them in its workspace.
pub(super) fn entries(spec: &MachineSpec) -> Vec<Entry> {
    let entry = |(descriptor, what): (usize, Inherited)| {
        let listens = matches!(what, Inherited::Listener | Inherited::Pager);
        let kind = if listens { EntryKind::Listener } else { EntryKind::File };
        Entry { name: what.name(), descriptor, kind }
    };
    inherited(spec).into_iter().enumerate().map(entry).collect()
}

/// Returns the arguments.
pub(super) fn arguments() -> Vec<OsString> {
    let (log, metrics) = (inside(&Inherited::Log.name()), inside(&Inherited::Metrics.name()));
    let pairs =
        [("--api-sock", inside(API)), ("--log-path", log), ("--level", "Warn".to_owned()), ("--metrics-path", metrics)];
    let pairs = pairs.into_iter().flat_map(|(name, value)| [OsString::from(name), OsString::from(value)]);
    // The id is all that logs and metrics would tell machines apart by; both are one machine's own here.
    pairs.chain(["--id".into(), "vm".into()]).collect()
}

/// Returns the path of something in the workspace, as Firecracker sees it.
pub(super) fn inside(name: &str) -> String {
    format!("{PLACE}/{name}")
}

/// Returns the call that makes it look at the size of a disk anew.
pub(super) fn resized(index: usize) -> Call {
    let name = Inherited::Disk(index).name();
    let body = json!({ "drive_id": name, "path_on_host": inside(&name) });
    Call::new(Method::Patch, format!("/drives/{name}"), body)
}

/// Returns the calls that start a machine at its kernel's first instruction.
pub(super) fn boot(spec: &MachineSpec) -> Vec<Call> {
    let put = |path: &str, body| Call::new(Method::Put, path, body);
    let mut calls = vec![
        put(
            "/boot-source",
            json!({
                "kernel_image_path": inside(&Inherited::Kernel.name()),
                "initrd_path": inside(&Inherited::Initramfs.name()),
                "boot_args": parameters(),
            }),
        ),
        put("/machine-config", machine(spec)),
    ];
    for (index, disk) in spec.disks.iter().enumerate() {
        calls.push(drive(index, disk.access));
    }
    calls.push(put("/vsock", json!({ "guest_cid": GUEST, "uds_path": inside(LINK) })));
    calls.push(put("/entropy", json!({})));
    calls.push(put("/actions", json!({ "action_type": "InstanceStart" })));
    calls
}

fn machine(spec: &MachineSpec) -> Value {
    let mut machine = json!({ "vcpu_count": spec.cpus, "mem_size_mib": spec.memory.0 });
    if spec.pages == PageSize::Huge {
        machine["huge_pages"] = json!("2M");
    }
    machine
}

/// The guest's address on the vsock: its socket is its own, so all have the same.
const GUEST: u32 = 3;

fn drive(index: usize, access: Access) -> Call {
    let name = Inherited::Disk(index).name();
    let body = json!({
        "drive_id": name,
        "path_on_host": inside(&name),
        "is_root_device": false,
        "is_read_only": access == Access::ReadOnly,
        // The scratch disk is worth nothing after a crash of the host: flushes are not passed on.
        "cache_type": if access == Access::Durable { "Writeback" } else { "Unsafe" },
    });
    Call::new(Method::Put, format!("/drives/{name}"), body)
}

fn parameters() -> String {
    let all = arch::PARAMETERS.iter().chain(crate::parameters::PARAMETERS);
    all.copied().collect::<Vec<_>>().join(" ")
}

/// Returns the call that makes a saved machine stand there, paused.
pub(super) fn load(saved: &Saved) -> Call {
    let (backend, what) = match saved.server {
        None => ("File", Inherited::Memory),
        Some(_) => ("Uffd", Inherited::Pager),
    };
    let body = json!({
        "snapshot_path": inside(&Inherited::Devices.name()),
        "mem_backend": { "backend_type": backend, "backend_path": inside(&what.name()) },
        "resume_vm": false,
    });
    Call::new(Method::Put, "/snapshot/load", body)
}

/// Returns the call that saves a paused machine: its devices into one file, its memory into another.
pub(super) fn save(devices: &str, memory: &str) -> Call {
    let body = json!({ "snapshot_path": inside(devices), "mem_file_path": inside(memory), "snapshot_type": "Diff" });
    Call::new(Method::Put, "/snapshot/create", body)
}

/// Returns the call that stops the processors, or lets them go on.
pub(super) fn state(state: &'static str) -> Call {
    Call::new(Method::Patch, "/vm", json!({ "state": state }))
}

#[cfg(test)]
mod tests;
