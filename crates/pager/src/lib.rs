//! Memory pages served to clones on demand: one server process for a snapshot, any number of machines.
//!
//! ```text
//! guest touches a page ─► kernel ─► userfaultfd ─► server: copies that page and its neighbours from the snapshot's files
//!
//! monitor ── its regions, userfaultfd ──► owner ── the same, pidfd of the monitor ──► server        [message]
//!                                           ▲                                           │
//!                                           └──────── serving, or why not; EOF ─────────┘
//! ```
//! The monitor cannot reach the server: its owner passes on what it says. Each watches the other. A monitor that ends is
//! seen by its pidfd, an owner by its connection, and what the server had for them is freed. A server that ends, or that
//! cannot put a page where it belongs, closes the connection, and the owner kills the machine: a page is the snapshot's,
//! or the machine is gone. So does one that stands still: the owner asks every second, and the thread that brings the
//! machine's pages is the one that answers. What a page is and what is done about an event is decided without I/O ([`contents`],
//! [`table`]); [`machine`] does it.

mod backing;
mod contents;
mod filter;
mod link;
mod machine;
mod message;
mod program;
mod server;
mod table;

pub use backing::Backing;
pub use contents::{Contents, ContentsError, Overlay};
pub use filter::{FilterError, confine};
pub use link::{Link, LinkError, PULSE};
pub use message::{LONGEST as LONGEST_MESSAGE, MessageError, Region, regions};
pub use program::{Files, Order, Program, enter, start};
pub use server::{MOST_CLONES, serve};
