//! Tar streams. Every archive is hostile until shown otherwise.
//!
//! What an image's layers do to a tree is decided in the `image` room.

mod entry;
mod error;
mod pax;
mod reader;
mod sparse;

pub use entry::{Attributes, Entry, EntryKind, Timestamp};
pub use error::Error;
pub use reader::{Entries, Source, Stream};
