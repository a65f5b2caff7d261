//! One way to boot, whatever the monitor.

use crate::{Backend, Error, Machine, MachineSpec, firecracker, qemu};
use fcvm_sys::jail::Entrance;

/// Boots a machine in a jail of its own. Returns when the monitor answers; the guest runs from then on.
///
/// Called on a thread that lives as long as the machine may: the kernel ends the monitor with that thread. Blocks it
/// for some milliseconds while the jail is made.
pub async fn boot(spec: &MachineSpec, entrance: &Entrance) -> Result<Machine, Error> {
    match &spec.choice.backend {
        Backend::Firecracker(firecracker) => firecracker::boot(firecracker, spec, entrance).await,
        Backend::Qemu(qemu) => qemu::boot(qemu, spec, entrance).await,
    }
}
