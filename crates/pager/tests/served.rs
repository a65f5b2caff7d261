//! A server and machines that are none: this process plays the monitor, with memory of its own and the same message.
//!
//! Where the kernel gives this user no userfaultfd, or has no huge pages to spare, that is said and what wants them counts
//! as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is a test, which clippy cannot know without its harness")]

#[path = "served/machine.rs"]
mod machine;
#[path = "served/pages.rs"]
mod pages;
#[path = "served/supervision.rs"]
mod supervision;

use fcvm_sys::userfaultfd::Userfaultfd;
use libtest_mimic::{Arguments, Trial};
use machine::Machine;
use std::io::ErrorKind;
use std::process::ExitCode;

/// Given as the first argument, it makes this binary the inside of a jail.
const JAIL: &str = "--jail";
/// Makes it a page server.
const PAGER: &str = "--pager";
/// Makes it one that does what a page server may not do.
const FILTERED: &str = "--filtered";

type Test = (&'static str, fn());

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(JAIL) => fcvm_sys::jail::enter(|_| ExitCode::FAILURE),
        Some(PAGER) => match fcvm_pager::enter() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Some(FILTERED) => supervision::be_filtered(),
        _ => run(),
    }
}

fn run() -> ExitCode {
    let missing = Userfaultfd::new().err();
    if let Some(missing) = &missing {
        eprintln!("SKIPPED: tests with a userfaultfd, because this host gives none: {missing}");
    }
    let huge = if missing.is_none() { Machine::huge(4) } else { Err(ErrorKind::Unsupported.into()) };
    if let Err(error) = &huge {
        eprintln!("SKIPPED: tests with huge pages, because this host has none to spare: {error}");
    }
    let (plain, huge) = (missing.is_some(), missing.is_some() || huge.is_err());
    let trials = pages::TESTS.iter().chain(supervision::TESTS).map(|test| trial(*test, plain));
    let huge = pages::HUGE.iter().map(|test| trial(*test, huge));
    libtest_mimic::run(&Arguments::from_args(), trials.chain(huge).collect()).exit_code()
}

fn trial((name, test): Test, ignored: bool) -> Trial {
    let trial = Trial::test(name, move || {
        test();
        Ok(())
    });
    trial.with_ignored_flag(ignored)
}
