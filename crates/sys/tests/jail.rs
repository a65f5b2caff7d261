//! Programs in real jails: what they see, what they may, and that they end.
//!
//! Tests that want namespaces or root, and do not have them, are said and count as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is a test, which clippy cannot know without its harness")]

#[path = "jail/fallback.rs"]
mod fallback;
#[path = "jail/life.rs"]
mod life;
#[path = "jail/program.rs"]
mod program;
#[path = "jail/view.rs"]
mod view;

use fcvm_sys::jail::{self, Isolation};
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// Given as the first argument, it makes this binary the inside of a jail.
const JAIL: &str = "--jail";
/// Makes it the owner of a jail, which waits to be killed.
const OWNER: &str = "--owner";
/// Makes it an owner on a host without user namespaces.
const RESTRICTED: &str = "--restricted";

/// A named test; it panics when it fails.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).take(2).collect();
    match arguments.first().map(String::as_str) {
        Some(JAIL) => jail::enter(|_| ExitCode::FAILURE),
        Some(OWNER) => life::own_a_jail(),
        Some(RESTRICTED) => fallback::own_a_jail(&arguments[1]),
        _ => run(),
    }
}

fn run() -> ExitCode {
    let namespaces = match jail::probe(&program::entrance()) {
        Ok(Isolation::Full) => Ok(()),
        Ok(isolation) => Err(isolation.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let root = if fcvm_sys::process::runs_as_root() { namespaces.clone() } else { Err("not root".to_owned()) };
    for missing in [&namespaces, &root].into_iter().filter_map(|found| found.as_ref().err()) {
        eprintln!("SKIPPED: tests of jails, because of {missing}");
    }
    let groups =
        [(view::TESTS, &namespaces), (life::TESTS, &namespaces), (life::ROOT_TESTS, &root), (fallback::TESTS, &root)];
    let trials = groups.into_iter().flat_map(|(tests, found)| tests.iter().map(|test| trial(*test, found.is_err())));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn trial((name, test): Test, ignored: bool) -> Trial {
    let run = move || {
        test();
        Ok(())
    };
    Trial::test(name, run).with_ignored_flag(ignored)
}
