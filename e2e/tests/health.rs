//! Stories of health: how it is told whether a container is well, and snapshots of those that are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, free_port, get};
use serde_json::Value;

fn inspected(host: &Host, vm: &str) -> Value {
    let health = host.fcvm(["inspect", "--format", "{{json .State.Health}}", vm]).ok();
    serde_json::from_slice(&health.stdout).unwrap()
}

fn status(host: &Host, vm: &str) -> String {
    inspected(host, vm)["Status"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_container_is_starting_then_healthy_then_unhealthy_as_its_command_says() {
    let host = Host::new();
    let check = ["--health-cmd", "cat /tmp/said && test -e /tmp/ready", "--health-interval", "1s"];
    let flags = [&["--no-snapshot", "--health-retries", "2", "--health-start-period", "1h"], &check[..]].concat();
    let vm = host.start("box", &[&flags[..], &[BUSYBOX, "sleep", "1000"]].concat());
    vm.exec(&["sh", "-c", "echo something > /tmp/said"]).ok();
    assert_eq!(host.fcvm(["healthcheck", "run", "box"]).failed(1, "").text(), "unhealthy");
    assert_eq!(status(&host, "box"), "starting");
    assert!(host.fcvm(["ps"]).ok().text().contains("(starting)"));
    vm.exec(&["touch", "/tmp/ready"]).ok();
    host.fcvm(["wait", "--condition", "healthy", "box"]).ok();
    host.fcvm(["healthcheck", "run", "box"]).ok();
    assert_eq!(host.fcvm(["ps", "-q", "--filter", "health=healthy"]).ok().text().lines().count(), 1);
    let log = inspected(&host, "box")["Log"].as_array().unwrap().clone();
    assert!(log.iter().any(|check| check["ExitCode"] == 0 && check["Output"] == "something\n"), "{log:?}");
    vm.exec(&["rm", "/tmp/ready"]).ok();
    host.fcvm(["wait", "--condition", "unhealthy", "box"]).ok();
    assert!(inspected(&host, "box")["FailingStreak"].as_u64() >= Some(2));
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_check_that_takes_too_long_is_ended_and_one_that_cannot_run_is_no_good() {
    let host = Host::new();
    let start = |name: &str, check: &str, patience: &str| {
        let flags = ["--health-cmd", check, "--health-timeout", patience, "--health-interval", "1h"];
        host.start(name, &[&flags[..], &[BUSYBOX, "sleep", "1000"]].concat())
    };
    let vm = start("slow", "sleep 2000", "300ms");
    host.fcvm(["healthcheck", "run", "slow"]).failed(1, "");
    let ended = "while ps | grep -q '[s]leep 2000'; do :; done; echo ended";
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", ended]).ok().text(), "ended");
    let log = inspected(&host, "slow")["Log"].clone();
    assert!(log[0]["ExitCode"] == -1 && log[0]["Output"].as_str().unwrap().contains("0.3 s"), "{log}");
    start("lost", r#"["/no/such/program"]"#, "60s");
    host.fcvm(["healthcheck", "run", "lost"]).failed(1, "");
    assert_eq!(inspected(&host, "lost")["Log"][0]["ExitCode"], 127);
    host.start("none", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["healthcheck", "run", "none"]).failed(125, "no health check");
    assert_eq!(status(&host, "none"), "");
    for (flag, value, words) in [
        ("--health-interval", "soon", "invalid time"),
        ("--health-interval", "0s", "--health-interval"),
        ("--health-url", "https://a", "invalid health URL"),
        ("--health-cmd", "[1]", "invalid health command"),
    ] {
        host.fcvm(["run", flag, value, BUSYBOX]).failed(125, words);
    }
    host.fcvm(["rm", "-f", "-t", "0", "slow", "lost", "none"]).ok();
    host.assert_clean();
}

/// A server that takes long to start, and tells how often it was started.
const SERVER: &str = "echo start >> /srv-starts; mkdir /srv; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; \
                      echo warm > /srv/index.html; exec httpd -f -p 80 -h /srv";

#[test]
fn a_server_that_became_well_once_is_warm_in_later_runs() {
    let host = Host::new();
    let serve = |name: &str, env: &str| {
        let port = free_port();
        let publish = format!("{port}:80");
        let flags = ["--health-url", "http://site/", "-p", &publish, "-e", env];
        let vm = host.start(name, &[&flags[..], &[BUSYBOX, "sh", "-c", SERVER]].concat());
        host.fcvm(["wait", "--condition", "healthy", name]).ok();
        assert!(get(port, "/").ends_with("warm\n"), "{name}");
        assert_eq!(vm.exec(&["cat", "/srv-starts"]).ok().text(), "start");
        (host.fcvm(["inspect", "--format", "{{.Vm.Snapshot}}", name]).ok().text(), vm.exec(&["hostname"]).ok().text())
    };
    let (first, _) = serve("first", "A=1");
    let (second, second_name) = serve("second", "A=1");
    let (third, third_name) = serve("third", "A=1");
    assert_ne!(first, second);
    assert_eq!(second, third);
    assert_ne!(second_name, third_name);
    // Another environment is another application.
    let (other, _) = serve("other", "A=2");
    assert_ne!(other, second);
    host.fcvm(["rm", "-f", "-t", "0", "first", "second", "third", "other"]).ok();
    host.assert_clean();
}

#[test]
fn a_snapshot_is_prepared_once_and_nothing_runs_afterwards() {
    let host = Host::new();
    let prepare = |flags: &[&str]| -> Value {
        let check = ["--health-cmd", "test -e /srv-ready"];
        let command = [BUSYBOX, "sh", "-c", "echo noise; touch /srv-ready; sleep 1000"];
        let said = host.fcvm(["prepare"].iter().chain(flags).chain(&check).chain(&command)).ok();
        assert_eq!(said.text().lines().count(), 1, "{}", said.text());
        assert_eq!(host.fcvm(["ps", "-a", "-q"]).ok().text(), "");
        serde_json::from_slice(&said.stdout).unwrap()
    };
    let (first, again) = (prepare(&[]), prepare(&[]));
    assert_eq!((&first["cache"], &again["cache"]), (&"created".into(), &"hit".into()));
    assert_eq!((&first["status"], &first["snapshot_type"]), (&"prepared".into(), &"system".into()));
    assert_eq!(first["generation_id"], again["generation_id"]);
    let forced = prepare(&["--force"]);
    assert_ne!(forced["generation_id"], first["generation_id"]);
    let (tagged, again) = (prepare(&["--tag", "warm"]), prepare(&["--tag", "warm"]));
    assert_eq!((&tagged["cache"], &again["cache"]), (&"created".into(), &"hit".into()));
    assert_eq!(tagged["snapshot_key"], first["snapshot_key"]);
    host.fcvm(["snapshot", "run", "-d", "--rm", "--name", "copy", "warm"]).ok();
    host.fcvm(["wait", "--condition", "healthy", "copy"]).ok();
    host.vm("copy").exec(&["test", "-e", "/srv-ready"]).ok();
    host.fcvm(["rm", "-f", "-t", "0", "copy"]).ok();
    let never = ["prepare", "--health-cmd", "echo not yet; false", "--health-interval", "100ms", BUSYBOX];
    host.fcvm(never.iter().chain(&["sleep", "1000"])).failed(125, "not yet");
    let ends = ["prepare", "--health-cmd", "false", BUSYBOX, "sh", "-c", "exit 3"];
    host.fcvm(ends).failed(125, "ended with code 3");
    host.assert_clean();
}
