//! What podman does, and what `fcvm` does: outputs and codes compared, byte for byte.
//!
//! Podman and runc may be missing, or run nothing in the place where this is tested: that is said, and all of these count
//! as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is a test, which clippy cannot know without its harness")]

#[path = "parity/documented.rs"]
mod documented;
#[path = "parity/exec.rs"]
mod exec;
#[path = "parity/images.rs"]
mod images;
#[path = "parity/inspect.rs"]
mod inspect;

use fcvm_e2e::podman::Podman;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

type Test = (&'static str, fn(&Podman));

const TESTS: [Test; 4] = [
    ("exec_gives_what_podman_exec_gives", exec::compare),
    ("what_is_told_of_a_container_is_what_podman_tells", inspect::compare),
    ("images_go_from_one_to_the_other_and_are_the_same", images::compare),
    ("what_podmans_manual_shows_does_the_same", documented::compare),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = Podman::find().err();
    if let Some(missing) = &missing {
        eprintln!("SKIPPED: comparisons with podman, because {missing}");
    }
    let trial = |(name, test): Test| {
        let is_missing = missing.is_some();
        Trial::test(name, move || {
            if !is_missing {
                test(&Podman::find()?);
            }
            Ok(())
        })
        .with_ignored_flag(is_missing)
    };
    libtest_mimic::run(&arguments, TESTS.into_iter().map(trial).collect()).exit_code()
}
