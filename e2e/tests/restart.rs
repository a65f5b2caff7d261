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
fn one_is_at_a_container_from_its_start_in_each_of_its_lives() {
    let host = Host::new();
    // What is typed goes on to the next life, and so does the end of it.
    let script = "read line && echo got $line || echo no more; exit 4";
    let lives = ["run", "-i", "--name", "box", "--restart", "on-failure:2", BUSYBOX, "sh", "-c", script];
    let run = host.fcvm_with(lives, b"one\n".to_vec());
    assert_eq!((run.code, run.text().as_str()), (4, "got one\nno more\nno more"));

    host.fcvm(["create", "-i", "--name", "typed", BUSYBOX, "sh", "-c", "read line; echo got $line; exit 5"]).ok();
    let at = host.fcvm_with(["start", "-ai", "typed"], b"word\n".to_vec());
    assert_eq!((at.code, at.text().as_str()), (5, "got word"));
    let again = host.fcvm_with(["start", "-a", "typed"], b"another\n".to_vec());
    assert_eq!((again.code, again.text().as_str()), (5, "got another"));
    host.fcvm(["start", "-a", "typed", "box"]).failed(125, "one VM");

    let wait = "trap 'echo heard; exit 9' USR1; echo up; while :; do sleep 0.1; done";
    host.fcvm(["create", "--name", "deaf", BUSYBOX, "sh", "-c", wait]).ok();
    let (client, stdout) = Started::streaming(host.command(["start", "--attach", "deaf"]));
    let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("up"));
    client.signal(10);
    assert_eq!(lines.next().as_deref(), Some("heard"));
    assert_eq!(client.finish().code, 9);
    host.fcvm(["create", "--name", "none", BUSYBOX, "nothing-like-that"]).ok();
    host.fcvm(["start", "-a", "none"]).failed(127, "nothing-like-that");

    let only = ["run", "--rm", "-i", "-a", "stdin", BUSYBOX, "sh", "-c", "cat; echo err >&2; exit 6"];
    let only = host.fcvm_with(only, b"unseen\n".to_vec());
    assert_eq!((only.code, only.stderr.as_str(), only.stdout.len()), (6, "", 65));
    host.fcvm(["rm", "-a"]).ok();
    host.assert_clean();
}

#[test]
fn a_clone_is_restarted_as_the_policy_of_its_source_says() {
    let host = Host::new();
    let script = "echo life >> /lives; trap 'exit 3' USR1; echo up; while :; do sleep 0.1; done";
    host.start("box", &["--restart", "on-failure:1", BUSYBOX, "sh", "-c", script]);
    host.vm("box").exec(&["sh", "-c", "until test -s /lives; do :; done"]).ok();
    host.fcvm(["snapshot", "create", "box", "--tag", "one"]).ok();
    host.fcvm(["snapshot", "run", "one", "-d", "--name", "copy"]).ok();
    assert_eq!(inspected(&host, "copy", "HostConfig.RestartPolicy"), "map[MaximumRetryCount:1 Name:on-failure]");
    host.fcvm(["kill", "-s", "USR1", "copy"]).ok();
    let (logs, stdout) = Started::streaming(host.command(["logs", "-f", "copy"]));
    let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("up"));
    assert_eq!(host.vm("copy").exec(&["wc", "-l", "/lives"]).ok().text(), "2 /lives");
    host.fcvm(["kill", "-s", "USR1", "copy"]).ok();
    assert_eq!(host.fcvm(["wait", "copy"]).ok().text(), "3");
    assert_eq!(logs.finish().code, 0);
    host.fcvm(["snapshot", "run", "one", "-d", "--rm", "--name", "gone"]).ok();
    assert_eq!(inspected(&host, "gone", "HostConfig.RestartPolicy"), "map[MaximumRetryCount:0 Name:]");
    host.fcvm(["rm", "-f", "-t", "0", "box", "copy", "gone"]).ok();
    host.fcvm(["snapshot", "rm", "one"]).ok();
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

/// A container that counts its lives on its disk and says the number, and does this to its machine while it is young.
fn counting(deed: &str) -> String {
    format!(
        "trap 'exit 9' TERM; echo life >> /lives; n=$(wc -l < /lives); echo $n; test $n -le 20 && {deed}; \
         while :; do sleep 0.1; done"
    )
}

#[test]
fn a_machine_that_reboots_comes_back_in_place_and_one_that_powers_off_ends() {
    let host = Host::new();
    let reboots = counting("busybox reboot -f");
    let run = ["run", "--privileged", "--name", "box", "-p", "80", BUSYBOX, "sh", "-c", &reboots];
    let (run, stdout) = Started::streaming(host.command(run));
    let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
    let same = |host: &Host| {
        let record = ["Id", "State.Pid", "Name"].map(|field| inspected(host, "box", field));
        (record, host.fcvm(["port", "box"]).ok().text())
    };
    assert_eq!(lines.next().as_deref(), Some("1"));
    let before = same(&host);
    for life in 2..=21 {
        assert_eq!(lines.next(), Some(life.to_string()));
    }
    assert_eq!(same(&host), before);
    // Past the agent: nobody lets the container end.
    host.fcvm(["exec", "--vm", "box", "sh", "-c", "sync; echo b > /proc/sysrq-trigger"]);
    assert_eq!(lines.next().as_deref(), Some("22"));
    assert_eq!(same(&host), before);
    // From the guest system around the container, which ends in good order.
    host.fcvm(["exec", "--vm", "box", "reboot"]).ok();
    assert_eq!(lines.next().as_deref(), Some("23"));
    assert_eq!(same(&host), before);
    assert_eq!(inspected(&host, "box", "RestartCount"), "0");
    host.fcvm(["exec", "--vm", "box", "poweroff"]).ok();
    assert_eq!(run.finish().code, 9);
    let events = host.fcvm(["events", "--no-stream", "--format", "{{.Status}} {{.ContainerExitCode}}"]).ok().text();
    assert_eq!(events.lines().filter(|line| *line == "reboot 0").count(), 21);
    assert!(events.ends_with("\ndied 9"), "{events}");
    host.fcvm(["rm", "box"]).ok();
    let panics = ["run", "--rm", "--privileged", BUSYBOX, "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000"];
    host.fcvm(panics).failed(125, "panics");
    let alone = |flags: &[&str], deed: &str| {
        host.fcvm(["run", "--rm"].iter().chain(flags).chain(&[BUSYBOX, "busybox", deed, "-f"])).code
    };
    assert_eq!(alone(&["--privileged"], "poweroff"), 130);
    assert_eq!(alone(&[], "reboot"), 1);
    host.assert_clean();
}

#[test]
fn a_vm_is_paused_renamed_and_given_other_limits_while_it_runs_and_all_of_that_is_told() {
    let host = Host::new();
    host.start("box", &["-m", "64m", "--health-cmd", "true", "--no-snapshot", BUSYBOX, "sleep", "1000"]);
    host.fcvm(["wait", "--condition", "healthy", "box"]).ok();
    assert_eq!(host.fcvm(["pause", "box"]).ok().text(), "box");
    assert_eq!(host.fcvm(["ps", "--format", "{{.State}} {{.Status}}"]).ok().text(), "paused Paused");
    assert_eq!(inspected(&host, "box", "State.Paused"), "true");
    host.fcvm(["exec", "box", "true"]).failed(125, "the VM is paused");
    host.fcvm(["kill", "box"]).failed(125, "the VM is paused");
    host.fcvm(["snapshot", "create", "box"]).failed(125, "the VM is paused");
    host.fcvm(["healthcheck", "run", "box"]).failed(125, "the VM is paused");
    host.fcvm(["pause", "box"]).failed(125, "is paused, not running");
    host.fcvm(["unpause", "--all"]).ok();
    host.fcvm(["unpause", "box"]).failed(125, "is running, not paused");
    let drift: i64 = host.vm("box").exec(&["date", "+%s"]).ok().text().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!((drift - i64::try_from(now.as_secs()).unwrap()).abs() <= 2, "{drift}");

    host.fcvm(["rename", "box", "crate"]).ok();
    host.fcvm(["exec", "box", "true"]).failed(125, "no VM");
    host.fcvm(["update", "--memory", "32m", "--cpus", "0.5", "crate"]).ok();
    let limits = ["cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max"];
    assert_eq!(host.vm("crate").exec(&limits).ok().text(), "33554432\n50000 100000");
    host.fcvm(["update", "--memory", "4g", "crate"]).failed(125, "its machine has 160 MiB of memory");
    host.fcvm(["pause", "crate"]).ok();
    host.fcvm(["stop", "-t", "0", "crate"]).ok();
    host.fcvm(["update", "--memory", "256m", "crate"]).ok();
    host.fcvm(["rename", "crate", "box"]).ok();
    host.fcvm(["start", "box"]).ok();
    assert_eq!(host.vm("box").exec(&limits).ok().text(), "268435456\n50000 100000");
    assert_eq!(inspected(&host, "box", "Vm.MemoryMiB"), "352");
    host.fcvm(["pause", "box"]).ok();
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();

    let events = host.fcvm(["events", "--stream=false", "--format", "{{.Status}}"]).ok().text();
    let expected = "create start health_status pause unpause rename update pause unpause stop died update rename start";
    let told: Vec<&str> = events.lines().take(14).collect();
    assert_eq!(told, expected.split(' ').collect::<Vec<_>>());
    assert!(events.ends_with("stop\ndied\nremove"), "{events}");
    let died = ["events", "--stream=false", "--filter", "event=died", "--format", "json"];
    let died = host.fcvm(died).ok().text();
    let died: serde_json::Value = serde_json::from_str(died.lines().next().unwrap()).unwrap();
    assert_eq!((&died["Name"], &died["ContainerExitCode"]), (&"crate".into(), &137.into()));
    host.assert_clean();
}

#[test]
fn events_are_followed_and_what_does_not_run_is_pruned() {
    let host = Host::new();
    let (watching, stdout) =
        Started::streaming(host.command(["events", "--filter", "event=create", "--format", "{{.Name}}"]));
    let mut names = BufReader::new(stdout).lines().map(Result::unwrap);
    // What was before it began to look is not shown, so it is asked until it does.
    let mut made = 0;
    let first = std::thread::scope(|scope| {
        let first = scope.spawn(|| names.next());
        while !first.is_finished() {
            made += 1;
            host.fcvm(["create", "--name", &format!("box-{made}"), BUSYBOX]).ok();
        }
        first.join().unwrap()
    });
    assert!(first.unwrap().starts_with("box-"));
    watching.signal(15);
    watching.finish();
    host.fcvm_with(["prune", "--filter", "until=1h"], b"y\n".to_vec()).ok();
    host.fcvm_with(["container", "prune"], b"n\n".to_vec()).ok();
    assert_eq!(host.fcvm(["ps", "-aq"]).ok().text().lines().count(), made);
    assert_eq!(host.fcvm(["prune", "-f"]).ok().text().lines().count(), made);
    host.assert_clean();
}
