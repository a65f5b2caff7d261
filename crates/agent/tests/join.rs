//! The helper that starts commands, as a program: what it says of a command that cannot be started.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::{Value, json};
use std::io::{Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::process::Command;

/// Asks a helper outside of any container; returns the failure that it said, and the command's number.
fn join(command: &[&str]) -> (Value, i32) {
    let (their_request, mut request) = pipe().unwrap();
    let (mut status, their_status) = pipe().unwrap();
    let mut helper = Command::new(env!("CARGO_BIN_EXE_fcvm-agent"));
    helper.arg("join");
    fcntl_setfd(&their_request, FdFlags::empty()).unwrap();
    fcntl_setfd(&their_status, FdFlags::empty()).unwrap();
    helper.args([their_request.as_raw_fd().to_string(), their_status.as_raw_fd().to_string()]);
    let mut helper = helper.spawn().unwrap();
    drop((their_request, their_status));
    let asked =
        json!({ "command": command, "env": [], "workdir": "/", "user": "", "streams": "Null", "container": null });
    request.write_all(asked.to_string().as_bytes()).unwrap();
    drop(request);
    let mut said = Vec::new();
    status.read_to_end(&mut said).unwrap();
    assert!(helper.wait().unwrap().success());
    let (failure, pid) = said.split_last_chunk().unwrap();
    (serde_json::from_slice(failure).unwrap(), i32::from_le_bytes(*pid))
}

/// The helper and the command write to one pipe. Which came first once depended on who ran first.
#[test]
fn a_failure_is_always_said_before_the_number() {
    for _ in 0..100 {
        let (failure, pid) = join(&["/no/such/program"]);
        assert_eq!(failure["code"], 127);
        // The command was a child of the helper's parent.
        waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
    }
}
