//! Connecting a guest: ports of the host that lead into it, and connections that leave it.
//!
//! Both travel over the link as streams and begin or end in sockets of the owner process, so they work as any user and
//! need no device, no rule and no address of the host. The guest's half (its TUN interface) is in the `agent` room.

pub mod address;
mod echo;
pub mod egress;
pub mod metadata;
pub mod ports;
mod udp;

pub use egress::Egress;
pub use metadata::Metadata;
pub use ports::{BindError, Published};
