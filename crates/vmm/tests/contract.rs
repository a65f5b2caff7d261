//! What the engine may rely on, tried with real machines.
//!
//! `FCVM_TEST_KERNEL` names an uncompressed kernel. Tests that look at a machine from inside also want
//! `FCVM_TEST_MODULES`, a directory of its modules as `fcvm setup` makes it, and a static busybox in the search path. What
//! is missing is said, and the tests that want it count as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is a test, which clippy cannot know without its harness")]

#[path = "contract/dial.rs"]
mod dial;
#[path = "contract/guest.rs"]
mod guest;
#[path = "contract/inside.rs"]
mod inside;
#[path = "contract/life.rs"]
mod life;
#[path = "contract/saved.rs"]
mod saved;

use guest::Guest;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use std::sync::Arc;

/// Given as the first argument, it makes this binary the inside of a jail.
const JAIL: &str = "--jail";
/// Makes it the owner of a machine, which waits to be killed.
const OWNER: &str = "--owner";

/// A named test; it panics when it fails.
type Test = (&'static str, fn(&Guest));

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(JAIL) => fcvm_sys::jail::enter(|_| ExitCode::FAILURE),
        Some(OWNER) => life::own_a_machine(),
        _ => run(),
    }
}

fn run() -> ExitCode {
    let guest = Guest::find().map(Arc::new);
    let furnished = guest.clone().and_then(|guest| guest.has_userland().map(|()| guest));
    if let Some(missing) = furnished.as_ref().err() {
        eprintln!("SKIPPED: tests with real machines, all or some of them, because {missing}");
    }
    let life = life::TESTS.iter().map(|test| trial(*test, &guest));
    let inside = inside::TESTS.iter().map(|test| trial(*test, &furnished));
    let saved = saved::TESTS.iter().map(|test| trial(*test, &furnished));
    libtest_mimic::run(&Arguments::from_args(), life.chain(inside).chain(saved).collect()).exit_code()
}

fn trial((name, test): Test, guest: &Result<Arc<Guest>, String>) -> Trial {
    match guest.clone() {
        Err(_) => Trial::test(name, || Ok(())).with_ignored_flag(true),
        Ok(guest) => Trial::test(name, move || {
            test(&guest);
            Ok(())
        }),
    }
}
