//! Starting and steering a monitor.
//!
//! [`Probe`] looks at the host, [`choose`] says which monitor and which accelerator a VM gets, and [`boot`] makes a
//! [`Machine`] of a [`MachineSpec`]. What runs in the guest is not known here: the machine hands out its link as a
//! connected socket and its console as text. Each monitor has a directory of its own; its order of calls is its own
//! business.

mod boot;
mod console;
mod error;
mod machine;
pub mod memory;
mod probe;
pub mod qemu;
mod select;
mod spec;
mod tail;

pub use boot::boot;
pub use console::{CONSOLE_FILE, Console};
pub use error::Error;
pub use fcvm_sys::jail::Entrance;
pub use machine::{Exit, Machine};
pub(crate) use memory::Memory;
pub use probe::Probe;
pub use select::{Accelerator, Backend, Choice, ChoiceError, Features, choose};
pub use spec::{Access, Disk, LINK_PORT, MachineSpec, Origin, Saved};
