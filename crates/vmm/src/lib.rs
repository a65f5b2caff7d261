//! Starting and steering a monitor.
//!
//! [`Probe`] looks at the host, [`choose`] says which monitor and which accelerator a VM gets, and [`boot`] makes a
//! [`Machine`] of a [`MachineSpec`]. What runs in the guest is not known here: the machine hands out the
//! [`Line`] to its agent and its console as text. Each monitor has a directory of its own; its order of calls is its own
//! business.

mod boot;
mod console;
mod control;
mod error;
mod files;
pub mod firecracker;
mod line;
mod machine;
pub mod memory;
mod parameters;
mod probe;
mod process;
pub mod qemu;
mod select;
mod spec;
mod tail;

pub use boot::boot;
pub use console::{CONSOLE_FILE, Console};
pub use control::ControlError;
pub use error::Error;
pub use fcvm_sys::jail::Entrance;
pub use line::Line;
pub use machine::{Exit, Machine};
pub(crate) use memory::Memory;
pub use probe::Probe;
pub use select::{Accelerator, Backend, Choice, ChoiceError, Features, choose};
pub use spec::{Access, Disk, LINK_PORT, LINK_VSOCK_PORT, MachineSpec, Origin, Saved};
