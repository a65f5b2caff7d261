//! The only place that prints.

pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;

use std::io::Write;

/// Prints a line of results. A closed standard output is nothing to complain about.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line about a problem.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
