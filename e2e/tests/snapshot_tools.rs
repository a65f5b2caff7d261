//! Stories of what snapshots are looked at and kept ready with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Started};
use std::io::{BufRead, BufReader};

fn remove(host: &Host, vms: &[&str]) {
    host.fcvm(["rm", "-f", "-t", "0"].iter().chain(vms)).ok();
}

#[test]
fn a_difference_names_files_processes_sockets_and_pages() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "sh", "-c", "echo 1 > /var/kept; echo 1 > /var/gone; exec sleep 1000"]);
    host.fcvm(["snapshot", "create", "--tag", "before", "box"]).ok();
    let change = "rm /var/gone; echo 22 > /var/kept; mkdir /var/new; rm /bin/vi; nc -ll -p 81 -e true & \
                  while ! netstat -ltn | grep -q :81; do :; done; sleep 4321 > /dev/null 2>&1 &";
    vm.exec(&["sh", "-c", change]).ok();

    let listed = || host.fcvm(["snapshot", "ls", "-q"]).ok().text();
    let before = listed();

    // A snapshot against a VM, and the VM goes on and leaves nothing behind for it.
    let text = host.fcvm(["snapshot", "diff", "before", "box"]).ok().text();
    let lines: Vec<&str> = text.lines().collect();
    for expected in ["A /var/new", "D /var/gone", "C /var/kept", "D /bin/vi", "+ listens tcp [::]:81"] {
        assert!(lines.contains(&expected), "{expected} is not in:\n{text}");
    }
    assert!(lines.iter().any(|line| line.starts_with("+ process ") && line.ends_with(" sleep 4321")), "{text}");
    assert!(!text.contains("sleep 1000"), "{text}");
    assert_eq!(listed(), before);

    // The other way round all of it is undone; a snapshot is no different from itself.
    host.fcvm(["snapshot", "create", "--tag", "after", "box"]).ok();
    let text = host.fcvm(["snapshot", "diff", "--json", "after", "before"]).ok().text();
    let back: serde_json::Value = serde_json::from_str(&text).unwrap();
    let change = |path: &str| {
        let files = back["files"].as_array().unwrap();
        files.iter().find(|file| file["path"] == path).map(|file| file["change"].as_str().unwrap().to_owned())
    };
    assert_eq!(change("/var/new").as_deref(), Some("deleted"));
    assert_eq!(change("/bin/vi").as_deref(), Some("added"));
    assert_eq!(back["listeners"]["gone"][0]["port"], 81);
    assert!(back["memory"]["differing"].as_u64().unwrap() > 0);
    let same = host.fcvm(["snapshot", "diff", "after", "after"]).ok().text();
    assert!(same.starts_with("0 of ") && same.lines().count() == 1, "{same}");
    host.fcvm(["snapshot", "diff", "before", "nothing"]).failed(125, "there is no VM of that name");
    remove(&host, &["box"]);
    host.assert_clean();
}

#[test]
fn a_served_snapshot_is_found_by_its_server_as_long_as_that_lives() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    // A server brings what is recorded here before it is asked for.
    host.fcvm(["snapshot", "tune", "warm", "--exec", "cat /etc/passwd"]).ok();
    let (server, stdout) = Started::streaming(host.command(["snapshot", "serve", "warm"]));
    let mut pid = String::new();
    BufReader::new(stdout).read_line(&mut pid).unwrap();
    let pid = pid.trim();
    assert_eq!(pid, server.pid().to_string());
    let from_server = ["snapshot", "run", "--pid", pid, "-q", "--exec", "echo here"];
    assert_eq!(host.fcvm(from_server).ok().text(), "here");
    host.fcvm(["snapshot", "run", "--pid", pid, "-q", "-d", "--name", "clone"]).ok();
    let monitor = host.fcvm(["inspect", "--format", "{{.Vm.Monitor}}", "clone"]).ok().text();
    host.vm("clone").exec(&["cat", "/etc/passwd"]).ok();
    server.signal(15);
    let ended = server.finish().ok();
    if monitor == "firecracker" {
        // Its pages came from the server.
        assert_eq!(host.fcvm(["wait", "clone"]).ok().text(), "125");
        let reason = host.fcvm(["inspect", "--format", "{{.State.Error}}", "clone"]).ok().text();
        assert!(reason.contains("its page server ended"), "{reason}");
    } else {
        assert!(ended.stderr.contains("by mapping its file"));
        host.vm("clone").exec(&["true"]).ok();
    }
    host.fcvm(from_server).failed(125, "no `snapshot serve` runs as process");
    host.fcvm(["snapshot", "flatten", "warm"]).ok();
    remove(&host, &["box", "clone"]);
    host.assert_clean();
}

#[test]
fn vms_boot_with_the_disk_of_a_snapshot_and_find_what_was_written() {
    let host = Host::new();
    let count = "echo x >> /var/starts; trap 'exit 0' TERM; while :; do sleep 1; done";
    let vm = host.start("box", &["-e", "FROM=first", BUSYBOX, "sh", "-c", count]);
    vm.exec(&["sh", "-c", "echo kept > /var/kept; rm /bin/vi; echo only > /dev/shm/memory"]).ok();
    // Somebody writes all the time and waits while the disk stands still.
    let writer = vm.exec(&["sh", "-c", "while :; do echo y >> /var/busy; done > /dev/null 2>&1 & echo $!"]).ok().text();
    host.fcvm(["snapshot", "create", "--disk-only", "--tag", "disk", "box"]).ok();
    vm.exec(&["kill", &writer]).ok();
    host.fcvm(["snapshot", "verify", "disk"]).ok();
    remove(&host, &["box"]);
    // It needs the image no more.
    host.fcvm(["rmi", "-f", BUSYBOX]).ok();

    host.fcvm(["snapshot", "run", "disk", "-d", "-n", "2", "--name", "copy", "-e", "ADDED=1"]).ok();
    for name in ["copy-1", "copy-2"] {
        let copy = host.vm(name);
        let seen = "cat /var/kept /var/starts; ls /bin/vi /dev/shm/memory 2>&1 | wc -l; echo $FROM $ADDED; hostname";
        let id = host.fcvm(["inspect", "--format", "{{.Id}}", name]).ok().text();
        assert_eq!(copy.exec(&["sh", "-c", seen]).ok().text(), format!("kept\nx\nx\n2\nfirst 1\n{}", &id[..12]));
    }
    // What a VM of such a disk is captured as is a snapshot like any other.
    host.fcvm(["snapshot", "create", "--tag", "whole", "copy-1"]).ok();
    let whole = host.fcvm(["snapshot", "run", "whole", "-q", "--exec", "cat /var/kept"]).ok();
    assert_eq!(whole.text(), "kept");
    let text = host.fcvm(["snapshot", "diff", "disk", "whole"]).ok().text();
    assert!(text.contains("C /var/starts") && !text.contains("pages"), "{text}");
    for refused in [&["rewind", "copy-1", "disk"][..], &["snapshot", "tune", "disk"], &["snapshot", "serve", "disk"]] {
        host.fcvm(refused).failed(125, "there is no machine in it");
    }
    remove(&host, &["copy-1", "copy-2"]);
    host.assert_clean();
}

#[test]
fn what_a_machine_uses_at_once_is_recorded_and_no_reason_for_a_clone_to_fail() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let id = host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok().text();
    host.fcvm(["snapshot", "tune", "warm", "--exec", "cat /etc/passwd; exit 3"]).failed(3, "");
    host.fcvm(["snapshot", "tune", "warm"]).ok();
    let record = host.data().join("snapshots").join(id).join("working-set");
    let recorded = std::fs::read_to_string(&record).unwrap();
    let pages = recorded.lines().map(|line| line.split_once(' ').unwrap().1.parse::<u64>().unwrap()).sum::<u64>();
    // Less than all of the machine, more than its kernel's first pages.
    assert!((100..100_000).contains(&pages), "{pages} pages");
    let run = || host.fcvm(["snapshot", "run", "warm", "-q", "--exec", "echo here"]).ok().text();
    assert_eq!(run(), "here");
    std::fs::write(&record, "x\n1\n-1 2\n18446744073709551615 18446744073709551615\n5 0\n").unwrap();
    assert_eq!(run(), "here");
    host.fcvm(["snapshot", "verify", "warm"]).ok();
    remove(&host, &["box"]);
    host.assert_clean();
}
