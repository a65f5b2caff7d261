//! What the container wrote, kept on disk in the format of Kubernetes' container runtimes (podman's `k8s-file`):
//!
//! ```text
//! 2026-11-23T12:00:00.000000001Z stdout F a whole line
//! 2026-11-23T12:00:00.000000002Z stderr P a part without its line's end
//! ```
//!
//! An `F` stands for a line feed after the text, a `P` for none, so that every byte can be had back. Two files of bounded
//! size: `container.log` and, before it, `container.log.1`.

mod entry;
mod lines;
mod reader;
mod writer;

pub use entry::{Entry, Source};
pub(crate) use lines::Lines;
pub use reader::{Filter, LogReader};
pub use writer::LogWriter;

const CURRENT: &str = "container.log";
const PREVIOUS: &str = "container.log.1";

#[cfg(test)]
mod tests;
