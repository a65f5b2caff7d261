//! What a container may use, where that changes while its VM is there: `update`.

use crate::{MachineShape, MiB, RootfsSize, VmSpec};
use serde::{Deserialize, Serialize};

/// Limits of a container; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory.
    #[serde(default)]
    pub memory: Option<MiB>,
    /// Thousandths of processors.
    #[serde(default)]
    pub cpu_milli: Option<u32>,
    /// The disk of its own writes.
    #[serde(default)]
    pub rootfs_size: Option<RootfsSize>,
}

/// A machine is too small for a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its machine has {0}, which it is made with; stop the VM, update it, and start it again")]
pub struct TooSmall(String);

impl Limits {
    /// Sets the limits of a VM whose machine stays as it is.
    pub fn set(self, spec: &mut VmSpec) -> Result<(), TooSmall> {
        let shape = &spec.machine;
        if self.memory.is_some_and(|memory| memory > shape.memory) {
            return Err(TooSmall(format!("{} of memory", shape.memory)));
        }
        if self.cpu_milli.is_some_and(|milli| milli > u32::from(shape.cpus) * 1000) {
            return Err(TooSmall(format!("{} processors", shape.cpus)));
        }
        self.note(spec);
        Ok(())
    }

    /// Sets the limits of a VM whose next machine is made for them.
    pub fn shape(self, spec: &mut VmSpec) {
        if let Some(memory) = self.memory {
            spec.machine.memory = MachineShape::memory_for(memory, spec.container.engine);
        }
        if let Some(milli) = self.cpu_milli {
            spec.machine.cpus = u8::try_from(milli.div_ceil(1000)).unwrap_or(MachineShape::MOST_CPUS);
        }
        self.note(spec);
    }

    fn note(self, spec: &mut VmSpec) {
        spec.container.memory = self.memory.map(MiB::bytes).or(spec.container.memory);
        spec.rootfs_size = self.rootfs_size.or(spec.rootfs_size);
        spec.container.cpu_milli = self.cpu_milli.or(spec.container.cpu_milli);
    }
}
