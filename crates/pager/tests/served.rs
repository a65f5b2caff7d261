//! A server and machines that are none: this process plays the monitor, with memory of its own and the same message.
//!
//! Where the kernel gives this user no userfaultfd, that is said and all of them count as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is a test, which clippy cannot know without its harness")]

#[path = "served/machine.rs"]
mod machine;
#[path = "served/pages.rs"]
mod pages;
#[path = "served/supervision.rs"]
mod supervision;

use fcvm_sys::userfaultfd::Userfaultfd;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

/// Given as the first argument, it makes this binary the inside of a jail.
const JAIL: &str = "--jail";
/// Makes it a page server.
const PAGER: &str = "--pager";

type Test = (&'static str, fn());

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(JAIL) => fcvm_sys::jail::enter(),
        Some(PAGER) => match fcvm_pager::enter() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => run(),
    }
}

fn run() -> ExitCode {
    let missing = Userfaultfd::new().err();
    if let Some(missing) = &missing {
        eprintln!("SKIPPED: tests with a userfaultfd, because this host gives none: {missing}");
    }
    let trial = |(name, test): &Test| {
        let test = *test;
        let trial = Trial::test(*name, move || {
            test();
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    };
    libtest_mimic::run(&Arguments::from_args(), pages::TESTS.iter().chain(supervision::TESTS).map(trial).collect())
        .exit_code()
}
