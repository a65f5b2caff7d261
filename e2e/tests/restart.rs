//! Stories of VMs that live more than once: start, restart, restart policies, reboots.

use fcvm_e2e::{BUSYBOX, Host, Started, free_port, get};
use std::io::{BufRead, BufReader};

/// What the record of a VM says at this place.
fn inspected(host: &Host, vm: &str, field: &str) -> String {
    host.fcvm(["inspect", "--format", &format!("{{{{.{field}}}}}"), vm]).ok().text()
}

/// A container that serves the number of its lives, which its disk remembers.
const COUNTER: &str = "echo life >> /www/lives; wc -l < /www/lives > /www/count; trap 'exit 7' TERM; \
                       httpd -f -p 80 -h /www & while :; do sleep 0.1; done";

/// The number of its lives, once it serves.
fn lives(host: &Host, port: u16) -> String {
    host.fcvm(["wait", "--condition", "healthy", "box"]).ok();
    get(port, "/count").lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_vm_that_has_ended_starts_again_with_its_disk_its_name_its_ports_and_its_id() {
    let host = Host::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let health = ["--no-snapshot", "--health-url", "http://box/count"];
    let flags = ["-p", &publish, "-p", "81", "-e", "WHO=me", BUSYBOX, "sh", "-c", COUNTER];
    host.start("box", &[&health[..], &flags].concat());
    let same = |host: &Host| [inspected(host, "box", "Id"), host.fcvm(["port", "box"]).ok().text()];
    let before = same(&host);
    host.fcvm(["start", "box"]).ok();
    assert_eq!(lives(&host, port), "1");
    host.fcvm(["stop", "box"]).ok();
    assert_eq!(inspected(&host, "box", "State.ExitCode"), "7");
    assert_eq!(host.fcvm(["start", "box"]).ok().text(), "box");
    assert_eq!(lives(&host, port), "2");
    assert_eq!(same(&host), before);
    assert_eq!(host.vm("box").exec(&["sh", "-c", "echo $WHO"]).ok().text(), "me");
    assert_eq!(inspected(&host, "box", "State.ExitCode"), "0");
    host.fcvm(["restart", "box"]).ok();
    assert_eq!(lives(&host, port), "3");
    assert_eq!(same(&host), before);
    assert_eq!(inspected(&host, "box", "RestartCount"), "0");
    host.fcvm(["rmi", BUSYBOX]).failed(2, "in use");
    host.fcvm(["stop", "--all"]).ok();
    host.fcvm(["rmi", BUSYBOX]).failed(2, "in use");
    host.fcvm(["restart", "--latest"]).ok();
    assert_eq!(lives(&host, port), "4");
    host.fcvm(["rm", "-f", "--filter", "name=box"]).ok();
    host.assert_clean();
}

#[test]
fn a_vm_that_is_created_starts_when_it_is_told_to() {
    let host = Host::new();
    let id = host.fcvm(["create", "--name", "box", "-P", BUSYBOX, "sh", "-c", "echo up; sleep 1000"]).ok().text();
    let row = |host: &Host| host.fcvm(["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}"]).ok().text();
    assert_eq!(row(&host), "box created Created");
    assert_eq!(host.fcvm(["ps", "-q"]).ok().text(), "");
    host.fcvm(["exec", "box", "true"]).failed(125, "not running");
    assert_eq!(host.fcvm(["start", &id]).ok().text(), id);
    assert!(row(&host).starts_with("box running Up"));
    assert!(host.fcvm(["port", "box"]).ok().text().starts_with("80/tcp -> "));
    host.fcvm(["stop", "-t", "0", "box"]).ok();
    assert_eq!(host.fcvm(["logs", "box"]).ok().text(), "up");
    host.fcvm(["rm", "box"]).ok();
    host.fcvm(["create", "--name", "box", BUSYBOX, "nothing-like-that"]).ok();
    host.fcvm(["start", "box"]).failed(127, "nothing-like-that");
    assert_eq!(row(&host), "box created Created");
    host.fcvm(["create", "--name", "box", BUSYBOX]).failed(125, "in use");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_container_that_crashes_is_restarted_as_its_policy_says() {
    let host = Host::new();
    let crash = "echo life >> /lives; echo $(wc -l < /lives); exit 3";
    let run = host.fcvm(["run", "--name", "some", "--restart", "on-failure:2", BUSYBOX, "sh", "-c", crash]);
    assert_eq!((run.code, run.text().as_str()), (3, "1\n2\n3"));
    assert_eq!(inspected(&host, "some", "RestartCount"), "2");
    assert_eq!(inspected(&host, "some", "HostConfig.RestartPolicy"), "map[MaximumRetryCount:2 Name:on-failure]");
    host.fcvm(["run", "--restart", "on-failure", BUSYBOX, "true"]).ok();
    let again = "echo life >> /lives; echo $(wc -l < /lives)";
    let (run, stdout) = Started::streaming(host.command([
        "run",
        "--name",
        "always",
        "--restart",
        "always",
        BUSYBOX,
        "sh",
        "-c",
        again,
    ]));
    let lives: Vec<String> = BufReader::new(stdout).lines().take(3).map(Result::unwrap).collect();
    assert_eq!(lives, ["1", "2", "3"]);
    host.fcvm(["stop", "always"]).ok();
    assert_eq!(run.finish().code, 0);
    assert_eq!(inspected(&host, "always", "State.Status"), "exited");
    host.fcvm(["rm", "-f", "-t", "0", "-a"]).ok();
    host.assert_clean();
}
