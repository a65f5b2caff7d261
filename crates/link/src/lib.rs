//! Streams over one byte channel, for both ends of it.
//!
//! [`start`] puts a session on two halves of a transport: a virtio-serial port's socket on the host, the port in the
//! guest, or a connection of `control.sock`. On a fresh serial link [`greeting`] comes first. The rules of the bytes
//! are in the `proto` room and in `docs/protocol.md`; nothing here knows what a stream is for.

pub mod blocking;
mod driver;
pub mod greeting;
pub mod relay;
mod session;
mod state;
mod stream;

pub use driver::{Driver, Resumable, resumable, start};
pub use session::{Ended, Incoming, OpenError, Opened, Session};
pub use stream::{Item, Receiver, Sender, Stream, StreamError};

pub use fcvm_proto::message::Lane;
pub use fcvm_proto::session::Role;
