//! Host directories in a guest: raw FUSE messages of its kernel, answered by a file server in a process of its own.
//!
//! ```text
//! guest's kernel ─/dev/fuse─ agent ══ a stream of the link ══ owner ─socket─ file server ─ the host's files
//! ```
//! The messages pass unchanged: they frame themselves by their own length, and nothing between the two ends looks into
//! them. There is one server a VM, in a jail that shows it the volumes and nothing else ([`fcvm_sys::jail`]); it ends
//! with its owner. [`Server`] is the owner's side, [`serve`] what runs inside; what a message asks for is done by
//! virtiofsd's library. What a volume is to a user is not known here.

mod calls;
mod channel;
mod control;
mod events;
#[cfg(test)]
mod hostile;
mod inside;
mod kept;
mod message;
mod server;
mod tables;

pub use control::{Cache, Events, State};
pub use inside::serve;
pub use server::{Error, Server, Shared, VOLUMES_MAX};
