//! Stories of captures, restores and rewinds that are cut off: the source lives, and nothing half done is left.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Started};
use fcvm_store::FailPoint;

const CAPTURE: [FailPoint; 5] = [
    FailPoint::CaptureBegun,
    FailPoint::CapturePaused,
    FailPoint::CaptureSaved,
    FailPoint::CaptureWritten,
    FailPoint::CaptureCommitted,
];

/// A host with an image in its cache: runs there make no snapshots of their own.
fn host() -> Host {
    let host = Host::new();
    host.fcvm(["run", "--rm", BUSYBOX, "true"]).ok();
    host
}

/// Starts a VM whose owner fails at a point.
fn start(host: &Host, point: FailPoint, fate: &str) {
    let mut command = host.command(["run", "-d", "--rm", "--name", "box", BUSYBOX, "sleep", "1000"]);
    command.env("FCVM_FAIL_POINT", format!("{point}={fate}"));
    Started::new(command, Vec::new()).finish().ok();
}

fn told(point: FailPoint) -> String {
    format!("the run failed at the point {point}, as it was told to")
}

/// How many snapshots there are, hidden ones too.
fn snapshots(host: &Host) -> usize {
    std::fs::read_dir(host.data().join("snapshots")).unwrap().count()
}

#[test]
fn a_capture_that_fails_leaves_its_source_running_and_no_half_snapshot() {
    let host = host();
    for point in CAPTURE {
        start(&host, point, "error");
        let vm = host.vm("box");
        vm.exec(&["sh", "-c", "echo before > /var/written"]).ok();
        host.fcvm(["snapshot", "create", "--tag", "half", "box"]).failed(125, &told(point));
        host.fcvm(["fork", "--name", "child", "box"]).failed(125, &told(point));
        assert_eq!(vm.exec(&["cat", "/var/written"]).ok().text(), "before", "{point}");
        host.fcvm(["snapshot", "inspect", "half"]).failed(125, "half");
        // One that is whole before its maker fails can be used, but for that of a fork.
        let whole = usize::from(point == FailPoint::CaptureCommitted);
        assert_eq!(snapshots(&host), 1 + whole, "{point}");
        host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
        host.assert_clean();
    }
}

#[test]
fn a_disk_s_capture_that_is_cut_off_leaves_a_guest_that_can_write() {
    let host = host();
    for point in CAPTURE.into_iter().filter(|point| *point != FailPoint::CapturePaused) {
        for fate in ["error", "kill"] {
            start(&host, point, fate);
            let before = snapshots(&host);
            let captured = host.fcvm(["snapshot", "create", "--disk-only", "box"]);
            assert_eq!(captured.code, 125, "{captured:?}");
            if fate == "error" {
                host.vm("box").exec(&["sh", "-c", "echo written > /var/written"]).ok();
                host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
            } else {
                host.await_silence();
            }
            let whole = usize::from(point == FailPoint::CaptureCommitted);
            host.assert_clean();
            assert_eq!(snapshots(&host), before + whole, "{point}={fate}");
        }
    }
}

#[test]
fn a_preparation_that_is_cut_off_leaves_nothing_and_the_next_one_works() {
    let host = host();
    for point in CAPTURE {
        for (fate, code) in [("error", 125), ("kill", 137)] {
            let before = snapshots(&host);
            let mut command = host.command(["prepare", "--tag", "ready", BUSYBOX, "sleep", "1000"]);
            command.env("FCVM_FAIL_POINT", format!("{point}={fate}"));
            let prepared = Started::new(command, Vec::new()).finish();
            assert_eq!(prepared.code, code, "{point}={fate}: {prepared:?}");
            host.await_silence();
            host.assert_clean();
            let whole = usize::from(point == FailPoint::CaptureCommitted);
            assert_eq!(snapshots(&host), before + whole, "{point}={fate}");
        }
    }
    host.fcvm(["prepare", "--tag", "ready", BUSYBOX, "sleep", "1000"]).ok();
    let ran = host.fcvm(["snapshot", "run", "-q", "ready", "--exec", "echo here"]).ok();
    assert_eq!(ran.text(), "here");
    host.assert_clean();
}

#[test]
fn an_owner_that_is_killed_in_a_capture_leaves_no_half_snapshot() {
    let host = host();
    for point in CAPTURE {
        for verb in [&["snapshot", "create"][..], &["fork"]] {
            start(&host, point, "kill");
            let before = snapshots(&host);
            host.fcvm(verb.iter().chain(&["box"])).failed(125, "Error: ");
            host.await_silence();
            host.assert_clean();
            let whole = point == FailPoint::CaptureCommitted && verb.len() == 2;
            assert_eq!(snapshots(&host), before + usize::from(whole), "{point} {verb:?}");
        }
    }
    // What was written whole before its maker died is a snapshot like any other.
    let id = host.fcvm(["snapshot", "ls", "-q"]).ok().text().lines().next().unwrap().to_owned();
    host.fcvm(["snapshot", "run", "-d", "--rm", "--name", "copy", &id]).ok();
    assert_eq!(host.vm("copy").exec(&["echo", "here"]).ok().text(), "here");
    host.fcvm(["rm", "-f", "-t", "0", "copy"]).ok();
    host.assert_clean();
}

#[test]
fn a_restore_that_is_cut_off_leaves_nothing_and_its_snapshot_as_it_was() {
    let host = host();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    let points = [
        FailPoint::OwnerTold,
        FailPoint::Directory,
        FailPoint::Locked,
        FailPoint::Recorded,
        FailPoint::Named,
        FailPoint::Control,
        FailPoint::RunDirectory,
        FailPoint::Monitor,
        FailPoint::MonitorRecorded,
        FailPoint::Greeted,
        FailPoint::Started,
        FailPoint::StartRecorded,
    ];
    for point in points {
        for fate in ["error", "kill"] {
            let mut command = host.command(["snapshot", "run", "-d", "--rm", "--name", "copy", "warm"]);
            command.env("FCVM_FAIL_POINT", format!("{point}={fate}"));
            let code = Started::new(command, Vec::new()).finish().code;
            let is_the_clients = point == FailPoint::OwnerTold && fate == "kill";
            assert_eq!(code, if is_the_clients { 137 } else { 125 }, "{point}={fate}");
            host.await_only(&["box"]);
        }
    }
    host.fcvm(["snapshot", "verify", "warm"]).ok();
    host.fcvm(["snapshot", "run", "-d", "--rm", "--name", "copy", "warm"]).ok();
    assert_eq!(host.vm("copy").exec(&["echo", "here"]).ok().text(), "here");
    host.fcvm(["rm", "-f", "-t", "0", "copy", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_rewind_that_fails_leaves_the_vm_as_it_is() {
    let host = host();
    for fate in ["error", "kill"] {
        start(&host, FailPoint::RewindAwake, fate);
        let vm = host.vm("box");
        host.fcvm(["snapshot", "create", "--tag", "then", "box"]).ok();
        vm.exec(&["sh", "-c", "echo now > /var/written"]).ok();
        let monitor = || host.fcvm(["inspect", "--format", "{{.Vm.MonitorPid}}", "box"]).text();
        let before = monitor();
        let rewound = host.fcvm(["rewind", "box", "then"]);
        if fate == "error" {
            rewound.failed(125, &told(FailPoint::RewindAwake));
            assert_eq!(vm.exec(&["cat", "/var/written"]).ok().text(), "now");
            assert_eq!(monitor(), before);
            host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
        } else {
            rewound.failed(125, "Error: ");
            host.await_silence();
        }
        host.assert_clean();
    }
}

#[test]
fn a_command_that_is_killed_while_it_forks_leaves_no_snapshot() {
    let host = host();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    for point in [FailPoint::OwnerTold, FailPoint::Directory] {
        let mut command = host.command(["fork", "--rm", "--name", "child", "box"]);
        command.env("FCVM_FAIL_POINT", format!("{point}=stop"));
        let fork = Started::new(command, Vec::new());
        host.await_stopped();
        fork.signal(9);
        fork.finish();
        host.await_only(&["box"]);
        assert_eq!(snapshots(&host), 1, "{point}");
    }
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}
