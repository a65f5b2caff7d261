//! Bytes between host and guest: frames, messages, the resumable session. No I/O, no sockets.
//!
//! The written form of this crate is `docs/protocol.md`. The asynchronous driver is in the `link` room.

pub mod census;
pub mod events;
pub mod files;
pub mod frame;
pub mod message;
pub mod plan;
pub mod preamble;
pub mod restore;
pub mod session;
pub mod usage;
pub mod version;
