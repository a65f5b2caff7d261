//! QEMU's command line: a pure function of the machine.
//!
//! The descriptors that it names are handed over by [`super::files`] in the order of [`Inherited`].

use super::arch;
use crate::parameters::PARAMETERS;
use crate::{Accelerator, Access, Disk, LINK_PORT, MachineSpec, Origin};
use fcvm_spec::DiskFormat;
use fcvm_sys::jail::FIRST_DESCRIPTOR;
use serde_json::json;
use std::ffi::OsString;
use std::os::fd::RawFd;

/// What QEMU inherits, in the order of [`inherited`] from [`FIRST_DESCRIPTOR`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inherited {
    /// The file that is the guest's memory.
    Memory,
    /// Our end's other end of the control connection.
    Control,
    /// The same of the link.
    Link,
    /// The same of the console.
    Console,
    /// An empty memory file into which QEMU saves its devices when it is told to.
    State,
    /// The kernel.
    Kernel,
    /// The initramfs.
    Initramfs,
    /// The devices' state of a saved machine.
    Devices,
    /// A disk, by its index.
    Disk(usize),
}

/// What every QEMU inherits.
const ALWAYS: [Inherited; 5] =
    [Inherited::Memory, Inherited::Control, Inherited::Link, Inherited::Console, Inherited::State];

/// Returns what QEMU inherits for a machine.
pub(super) fn inherited(spec: &MachineSpec) -> Vec<Inherited> {
    use Inherited::{Devices, Initramfs, Kernel};
    let origin: &[Inherited] = match spec.origin {
        Origin::Boot { .. } => &[Kernel, Initramfs],
        Origin::Saved(_) => &[Devices],
    };
    ALWAYS.into_iter().chain(origin.iter().copied()).chain((0..spec.disks.len()).map(Inherited::Disk)).collect()
}

/// The numbers of what QEMU inherits.
struct Numbers(Vec<Inherited>);

impl Numbers {
    fn number(&self, what: Inherited) -> RawFd {
        let place = self.0.iter().position(|inherited| *inherited == what);
        let place = place.expect("the line names only what this machine inherits");
        FIRST_DESCRIPTOR + RawFd::try_from(place).expect("a machine has a few descriptors")
    }

    /// Returns a path that opens what the descriptor names, anew.
    fn path(&self, what: Inherited) -> String {
        format!("/proc/self/fd/{}", self.number(what))
    }
}

/// Returns the path by which QEMU opens the file into which it saves its devices.
pub(super) fn state_path() -> String {
    Numbers(ALWAYS.to_vec()).path(Inherited::State)
}

/// Returns where QEMU finds the devices' state of a saved machine: a URI of its migration.
pub(super) fn incoming(spec: &MachineSpec) -> String {
    format!("fd:{}", Numbers(inherited(spec)).number(Inherited::Devices))
}

/// Translated code is kept up to this many MiB. Without a limit it grows by hundreds.
const TRANSLATION_MIB: u32 = 64;

/// No new processes, no more privileges, no obsolete system calls, no scheduling tricks.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// Returns the arguments for a machine on a host whose time stamp counter has this frequency: under software emulation
/// on x86_64 a guest that is not told hangs at random.
pub(super) fn arguments(spec: &MachineSpec, tsc_khz: Option<u32>) -> Vec<OsString> {
    let mut line = Line::default();
    let numbers = Numbers(inherited(spec));
    machine(&mut line, spec, &numbers);
    match &spec.origin {
        Origin::Boot { .. } => {
            line.option("-kernel", numbers.path(Inherited::Kernel));
            line.option("-initrd", numbers.path(Inherited::Initramfs));
            line.option("-append", parameters(spec.choice.accel, tsc_khz));
        }
        Origin::Saved(_) => {
            // Kernel and initramfs are in the memory. The state was saved without its configuration section.
            line.option("-incoming", "defer");
            line.option("-global", "migration.send-configuration=off");
        }
    }
    connections(&mut line, &numbers);
    for (index, disk) in spec.disks.iter().enumerate() {
        attach(&mut line, index, disk, numbers.number(Inherited::Disk(index)));
    }
    line.option("-object", "rng-builtin,id=entropy");
    line.option("-device", "virtio-rng-device,rng=entropy");
    line.arguments
}

fn machine(line: &mut Line, spec: &MachineSpec, numbers: &Numbers) {
    let accel = spec.choice.accel;
    line.option("-M", format!("{},memory-backend=memory", arch::MACHINE));
    line.option(
        "-accel",
        match accel {
            Accelerator::Kvm => "kvm".to_owned(),
            Accelerator::Tcg => format!("tcg,thread=multi,tb-size={TRANSLATION_MIB}"),
        },
    );
    line.option("-cpu", arch::cpu(accel));
    line.option("-smp", spec.cpus.to_string());
    let (size, path) = (spec.memory.0, numbers.path(Inherited::Memory));
    // What a saved machine starts from is mapped privately: pages that it writes become its own.
    let share = if let Origin::Saved(_) = spec.origin { "off" } else { "on" };
    line.option("-m", format!("{size}M"));
    line.option("-object", format!("memory-backend-file,id=memory,size={size}M,mem-path={path},share={share}"));
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        line.flag(flag);
    }
    line.option("-display", "none");
    line.option("-sandbox", SANDBOX);
    line.option("-global", "virtio-mmio.force-legacy=false");
}

fn parameters(accel: Accelerator, tsc_khz: Option<u32>) -> String {
    let fixed = arch::PARAMETERS.iter().chain(PARAMETERS).map(|parameter| (*parameter).to_owned());
    fixed.chain(arch::clock_parameters(accel, tsc_khz)).collect::<Vec<_>>().join(" ")
}

fn connections(line: &mut Line, numbers: &Numbers) {
    let inherited = |id: &str, what: Inherited| format!("socket,id={id},fd={}", numbers.number(what));
    line.option("-chardev", inherited("control", Inherited::Control));
    line.option("-mon", "chardev=control,mode=control");
    line.option("-chardev", inherited("console", Inherited::Console));
    line.option("-serial", "chardev:console");
    line.option("-chardev", inherited("link", Inherited::Link));
    line.option("-device", "virtio-serial-device,max_ports=2");
    line.option("-device", format!("virtserialport,chardev=link,nr=1,name={LINK_PORT}"));
}

/// Attaches a disk. QEMU duplicates the descriptor, so it needs no right to open the file itself.
fn attach(line: &mut Line, index: usize, disk: &Disk, number: RawFd) {
    // The scratch disk is worth nothing after a crash of the host, so a flush of the guest is not passed on. What the
    // guest discards or zeroes is given back to the host's file system.
    let options = match disk.access {
        Access::ReadOnly => "read-only=on",
        Access::Durable => "read-only=off,discard=unmap",
        Access::ReadWrite => "read-only=off,cache.no-flush=on,discard=unmap",
    };
    let zeroes = if disk.access == Access::ReadOnly { "" } else { ",detect-zeroes=unmap" };
    let set = index + 1;
    let name = disk_name(index);
    line.option("-add-fd", format!("fd={number},set={set}"));
    let file = format!("driver=file,node-name=file{index},filename=/dev/fdset/{set},locking=off,{options}");
    line.option("-blockdev", file);
    line.option(
        "-blockdev",
        match disk.format {
            DiskFormat::Raw => format!("driver=raw,node-name={},file=file{index},{options}{zeroes}", node(index)),
            DiskFormat::Qcow2 => qcow2(index, disk.access),
        },
    );
    // A full host is the guest's error to see, not a reason to stop the machine without a word.
    let errors = "rerror=report,werror=report";
    line.option("-device", format!("virtio-blk-device,drive={},serial={name},{errors}", node(index)));
}

/// Whatever such a file says of other files, nothing but itself is read. Only as JSON can that be said.
fn qcow2(index: usize, access: Access) -> String {
    let mut node = json!({
        "driver": "qcow2", "node-name": node(index), "file": format!("file{index}"), "backing": null,
        "read-only": access == Access::ReadOnly,
    });
    if access != Access::ReadOnly {
        node["discard"] = json!("unmap");
        node["detect-zeroes"] = json!("unmap");
    }
    node.to_string()
}

/// Returns the name by which QEMU knows the disk with this index.
pub(super) fn node(index: usize) -> String {
    format!("disk{index}")
}

/// Returns the name that Linux gives to the disk with this index.
fn disk_name(index: usize) -> String {
    let letter = u8::try_from(index).ok().and_then(|index| b'a'.checked_add(index)).filter(u8::is_ascii_lowercase);
    format!("vd{}", letter.map_or('?', char::from))
}

/// A command line as it grows.
#[derive(Default)]
struct Line {
    arguments: Vec<OsString>,
}

impl Line {
    fn flag(&mut self, flag: &str) {
        self.arguments.push(flag.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.arguments.push(name.into());
        self.arguments.push(value.into());
    }
}

#[cfg(test)]
mod tests;
