//! Tar streams, and the files that go into them and come out. Every archive is hostile until shown otherwise.
//!
//! ```text
//! Packable ─► pack ─► Writer ─► … ─► Entries ─► unpack ─► Place
//! ```
//! What an image's layers do to a tree is decided in the `image` room.

mod direct;
mod entry;
mod error;
mod pack;
mod pax;
mod place;
mod reader;
mod root;
mod sparse;
mod unpack;
mod writer;

pub use entry::{Attributes, Entry, EntryKind, Timestamp};
pub use error::Error;
pub use pack::{Holes, Packable};
pub use place::{Coming, Place};
pub use reader::{Entries, Source, Stream};
pub use root::Root;
pub use unpack::{Conflict, Limits, Manner, Owner, Trust, Unpacked, Writing, unpack};
pub use writer::Writer;
