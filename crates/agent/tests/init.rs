//! The small init as a program: what it starts, passes on, and ends with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

fn init(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fcvm-agent"));
    command.arg("--").args(words);
    command
}

/// Starts a shell below the init and waits for its first line.
fn ready(script: &str) -> (Child, BufReader<ChildStdout>) {
    let mut command = init(&["sh", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, stdout)
}

#[test]
fn it_ends_as_its_command_ends() {
    for (script, code) in [("exit 7", 7), ("exit 0", 0), ("kill -9 $$", 137)] {
        assert_eq!(init(&["sh", "-c", script]).status().unwrap().code(), Some(code), "{script}");
    }
}

#[test]
fn a_command_that_cannot_be_started_is_told_apart() {
    for (words, code) in [(&["/no/such/program"][..], 127), (&["/dev/null"], 126), (&[], 125)] {
        let output = init(words).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn signals_reach_the_command() {
    for (name, number) in [("HUP", 1), ("TERM", 15), ("USR1", 10), ("WINCH", 28)] {
        let (mut child, _stdout) = ready(&format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.02; done"));
        fcvm_sys::guest::send_signal(child.id() as i32, number).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(9), "{name}");
    }
}

#[test]
fn a_real_time_signal_reaches_the_command() {
    let (mut child, _stdout) = ready("echo ready; read -r _");
    // `wait` closes an input that the child still has: the shell would end by that.
    let _stdin = child.stdin.take();
    fcvm_sys::guest::send_signal(child.id() as i32, 37).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 37));
}

#[test]
fn a_stream_that_the_command_closes_is_closed() {
    let (mut child, mut stdout) = ready("echo ready; exec >&-; read -r _");
    let mut rest = String::new();
    assert_eq!(stdout.read_line(&mut rest).unwrap(), 0);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(1), "the shell read the end of its input");
}
