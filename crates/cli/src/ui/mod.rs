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

/// Prints a question, whose answer follows in its line.
pub(crate) fn ask(text: &str) {
    let mut stdout = std::io::stdout();
    let _ = write!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Prints a line about a problem.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Names are the container's: they are not to speak to our user's terminal.
pub(crate) fn visible(text: &str) -> String {
    let escape =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    text.chars().map(escape).collect()
}
