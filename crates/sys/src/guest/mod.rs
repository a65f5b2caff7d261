//! System calls that only the guest's agent makes: modules, namespaces, clock, random pool, TUN. Each is one call.

mod clock;
mod clone;
mod entropy;
mod freeze;
mod fuse;
mod grow;
mod node;
mod port;
mod signal;
mod tun;

pub use clock::{set_clock, shift_clock};
pub use clone::{Cloned, clone_sibling};
pub use entropy::add_entropy;
pub use freeze::{freeze, thaw};
pub use fuse::{FuseDevice, LONGEST_REQUEST};
pub use grow::grow;
pub use node::open_node;
pub use port::Port;
pub use signal::send_signal;
pub use tun::{TunError, bring_up, open_tun, route_default};
