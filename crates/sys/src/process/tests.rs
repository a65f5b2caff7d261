//! Processes that end, and those that only look as if they ran.

use super::*;
use std::process::Command;

fn start(script: &str) -> Child {
    let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    let pid = Pid::from_child(&child);
    // The standard library does not wait for a child that is merely dropped.
    drop(child);
    Child::adopt(pid).unwrap()
}

#[test]
fn an_exit_status_is_reported_again_and_again() {
    let mut child = start("exit 7");
    assert_eq!(child.wait().unwrap(), Ending::Code(7));
    assert_eq!(child.try_wait().unwrap(), Some(Ending::Code(7)));
}

#[test]
fn a_killed_child_ended_by_a_signal() {
    let mut child = start("exec sleep 1000");
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap(), Ending::Signal(9));
    child.kill().unwrap();
}

#[test]
fn a_dropped_child_is_gone() {
    let child = start("exec sleep 1000");
    let identity = Identity::of(child.pid()).unwrap();
    assert!(identity.is_alive());
    drop(child);
    assert_eq!(Identity::of(identity.pid).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_process_that_was_not_reaped_is_not_alive() {
    let mut child = start("exit 0");
    let identity = Identity::of(child.pid()).unwrap();
    wait_readable(&child.pidfd).unwrap();
    assert!(!identity.is_alive());
    child.wait().unwrap();
}

#[test]
fn another_process_with_the_number_is_not_the_same() {
    let own = Identity::own().unwrap();
    assert!(own.is_alive());
    assert!(!Identity { start_time: own.start_time + 1, ..own }.is_alive());
}

#[test]
fn a_name_with_brackets_and_spaces_does_not_move_the_fields() {
    let stat = "12 (a) 9 (b) S 34 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2";
    assert_eq!(stat_field(stat, 4), Some(34));
    assert_eq!(stat_field(stat, 22), Some(9876));
    assert_eq!(stat_state(stat), Some('S'));
    assert_eq!(stat_field("nonsense", 4), None);
}
