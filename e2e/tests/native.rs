//! Firecracker as it is, on any `/dev/kvm`: machines, their snapshots, and page servers.
//!
//! `FCVM_FIRECRACKER_BIN` names it. What is missing is said, and what wants it counts as ignored.

#![allow(clippy::unwrap_used, reason = "all of this is a test, which clippy cannot know without its harness")]

#[path = "native/life.rs"]
mod life;
#[path = "native/served.rs"]
mod served;

use fcvm_e2e::native::Native;
use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;
use std::sync::Arc;

type Test = (&'static str, fn(&Native));

fn main() -> ExitCode {
    let native = Native::find().map(Arc::new);
    let huge = native.clone().and_then(|native| native.has_huge_pages(served::HUGE_PAGES).map(|()| native));
    if let Some(missing) = huge.as_ref().err() {
        eprintln!("SKIPPED: tests with Firecracker at its native speed, all or some of them, because {missing}");
    }
    let trials = life::TESTS.iter().chain(served::TESTS).map(|test| trial(*test, &native));
    let huge = served::HUGE.iter().map(|test| trial(*test, &huge));
    libtest_mimic::run(&Arguments::from_args(), trials.chain(huge).collect()).exit_code()
}

fn trial((name, test): Test, native: &Result<Arc<Native>, String>) -> Trial {
    match native.clone() {
        Err(_) => Trial::test(name, || Ok(())).with_ignored_flag(true),
        Ok(native) => Trial::test(name, move || {
            test(&native);
            Ok(())
        }),
    }
}

/// Runs one test's future on its own thread, as an owner does.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}
