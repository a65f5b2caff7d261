//! Stories of a VM's life: background, logs, stop, kill, wait, and what is left when someone is killed.

use fcvm_e2e::{BUSYBOX, Host, Started};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

#[test]
fn a_vm_in_the_background_is_listed_logged_stopped_and_removed() {
    let host = Host::new();
    let script = "echo one; echo two >&2; trap 'exit 5' TERM; while :; do sleep 0.1; done";
    host.start("box", &["--label", "a=b", BUSYBOX, "sh", "-c", script]);
    let row = host.fcvm(["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]).ok().text();
    assert_eq!(row, format!("box {BUSYBOX} running"));
    assert_eq!(host.fcvm(["ps", "-q", "--filter", "label=a=b"]).ok().text().lines().count(), 1);
    assert_eq!(host.fcvm(["ps", "-q", "--filter", "label=a=c"]).ok().text(), "");
    let inspected = host.fcvm(["inspect", "box"]).ok();
    let inspected: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected[0]["State"]["Running"], true);
    host.fcvm(["stop", "box"]).ok();
    let logs = host.fcvm(["logs", "box"]).ok();
    assert_eq!((logs.text().as_str(), logs.stderr.as_str()), ("one", "two\n"));
    assert_eq!(host.fcvm(["wait", "box"]).ok().text(), "5");
    assert_eq!(host.fcvm(["ps", "-a", "--format", "{{.State}}"]).ok().text(), "exited");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_container_that_ignores_the_stop_signal_is_killed_after_the_time_out() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    host.fcvm(["stop", "-t", "1", "box"]).ok();
    assert_eq!(host.fcvm(["wait", "box"]).ok().text(), "137");
}

#[test]
fn kill_sends_any_signal_and_rm_refuses_a_running_vm() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.1; done"]);
    host.fcvm(["rm", "box"]).failed(2, "box");
    let waiting = Started::new(host.command(["wait", "box"]), Vec::new());
    host.fcvm(["kill", "-s", "USR1", "box"]).ok();
    assert_eq!(waiting.finish().ok().text(), "9");
}

#[test]
fn logs_are_followed_to_the_end() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"]);
    assert_eq!(host.fcvm(["logs", "-f", "box"]).ok().text(), "1\n2\n3");
    assert_eq!(host.fcvm(["logs", "--tail", "1", "box"]).ok().text(), "3");
    let stamped = host.fcvm(["logs", "-t", "--tail", "1", "box"]).ok().text();
    assert!(stamped.ends_with(" 3") && stamped.starts_with("20"), "{stamped}");
}

#[test]
fn logs_of_several_are_followed_together() {
    let host = Host::new();
    let script = "echo up; while ! test -e /go; do sleep 0.1; done; echo end";
    for vm in ["one", "two"] {
        host.start(vm, &[BUSYBOX, "sh", "-c", script]);
    }
    let (logs, stdout) = Started::streaming(host.command(["logs", "-f", "--names", "one", "two"]));
    let mut lines = BufReader::new(stdout).lines().map(Result::unwrap);
    let mut next = |number| {
        let mut lines: Vec<String> = lines.by_ref().take(number).collect();
        lines.sort();
        lines
    };
    assert_eq!(next(2), ["one up", "two up"]);
    // The second goes on while the first has nothing to say.
    host.vm("two").exec(&["touch", "/go"]).ok();
    assert_eq!(next(1), ["two end"]);
    host.vm("one").exec(&["touch", "/go"]).ok();
    assert_eq!(next(2), ["one end"]);
    logs.finish().ok();
    host.fcvm(["rm", "-f", "one", "two"]).ok();
    host.assert_clean();
}

#[test]
fn systemd_is_told_how_to_start_and_stop_a_vm() {
    let host = Host::new();
    let made = ["create", "--name", "box", "--restart=always", "-e", "WORDS=a $b 100%", "--stop-timeout", "7", BUSYBOX];
    host.fcvm([&made[..], &["sh", "-c", "echo \"$WORDS\"", "-d"]].concat()).ok();
    let unit = |flags: &[&str]| host.fcvm(["generate", "systemd"].iter().chain(flags).chain(&["box"])).ok().text();
    let program = std::env::var("FCVM_BIN").unwrap();
    let line = format!("{program} --data-dir {}", host.data().display());
    let start = unit(&["--name", "--no-header", "--restart-policy", "always", "--after", "a.service", "-e", "A=b c"]);
    for expected in [
        "[Unit]\nDescription=fcvm container-box.service\n",
        "After=a.service\n",
        "Environment=\"A=b c\"\nRestart=always\nTimeoutStopSec=67\n",
        &format!("ExecStart={line} start --attach box\nExecStop={line} stop -t 7 box\n"),
        "\n[Install]\nWantedBy=default.target",
    ] {
        assert!(start.contains(expected), "{expected} is not in:\n{start}");
    }
    let made = unit(&["--new", "--name", "-t", "3"]);
    let run = format!(
        "ExecStart={line} run \\\n\t--cidfile=%t/%n.ctr-id \\\n\t--rm \\\n\t--name box \\\n\t-e \"WORDS=a $$b 100%%\" \\\n\t\
         --stop-timeout 7 \\\n\t{BUSYBOX} sh -c \"echo \\\"$$WORDS\\\"\" -d\n"
    );
    assert!(made.contains(&run), "{run} is not in:\n{made}");
    let mut write = host.command(["generate", "systemd", "--new", "--files", "--name", "box"]);
    write.current_dir(host.path());
    let path = Started::new(write, Vec::new()).finish().ok().text();
    assert!(path.ends_with("/container-box.service"), "{path}");
    match std::process::Command::new("systemd-analyze").args(["verify", "--man=no", &path]).output() {
        Ok(verified) => assert!(verified.stderr.is_empty(), "{}", String::from_utf8_lossy(&verified.stderr)),
        Err(error) => eprintln!("SKIPPED: the unit is not verified, because systemd-analyze does not start: {error}"),
    }
    host.fcvm(["generate", "kube", "box"]).failed(125, "pods are not there");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn an_owner_that_is_killed_takes_its_machine_along_and_leaves_nothing() {
    let host = Host::new();
    let command = host.command(["run", "--rm", BUSYBOX, "sh", "-c", "echo up; sleep 1000"]);
    let (started, mut stdout) = Started::streaming(command);
    let mut word = [0; 2];
    stdout.read_exact(&mut word).unwrap();
    started.signal(9);
    started.finish();
    host.assert_clean();
}

#[test]
fn a_monitor_that_is_killed_ends_its_owner_with_a_reason() {
    let host = Host::new();
    let command = host.command(["run", "--rm", "--name", "box", BUSYBOX, "sh", "-c", "echo up; sleep 1000"]);
    let (started, mut stdout) = Started::streaming(command);
    let mut word = [0; 2];
    stdout.read_exact(&mut word).unwrap();
    let monitor = host.fcvm(["inspect", "--format", "{{.Vm.MonitorPid}}", "box"]).ok().text();
    let pid = rustix::process::Pid::from_raw(monitor.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    started.finish().failed(125, "monitor");
    host.assert_clean();
}

#[test]
fn a_container_that_needs_more_memory_than_it_may_have_is_killed_and_that_is_told() {
    let host = Host::new();
    let hog = "head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null";
    let code = host.fcvm(["run", "--name", "hog", "-m", "32m", BUSYBOX, "sh", "-c", hog]).code;
    assert_eq!(code, 137);
    let state =
        |vm: &str| host.fcvm(["inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", vm]).ok().text();
    assert_eq!(state("hog"), "true 137");
    host.fcvm(["run", "--name", "modest", "-m", "32m", BUSYBOX, "true"]).ok();
    assert_eq!(state("modest"), "false 0");
}

#[test]
fn the_processes_of_a_vm_are_in_a_cgroup_that_ends_with_it() {
    let parent = format!("fcvm-test-{}", std::process::id());
    let root = Path::new("/sys/fs/cgroup");
    let trees: &[&str] = if root.join("cgroup.controllers").exists() { &[""] } else { &["pids", "memory", "cpu"] };
    let trees: Vec<_> = trees.iter().map(|tree| root.join(tree)).filter(|tree| tree.exists()).collect();
    let parents: Vec<_> = trees.iter().map(|tree| tree.join(&parent)).collect();
    if let Err(error) = parents.iter().try_for_each(fs::create_dir) {
        eprintln!("SKIPPED: no cgroup can be made here: {error}");
        return;
    }
    let host = Host::new();
    let shared = tempfile::tempdir().expect("a directory");
    let volume = format!("{}:/shared", shared.path().display());
    let flags = ["--cgroup-parent", &parent, "--cgroup-conf", "pids.max=99"];
    host.start("box", &[&flags[..], &["-v", &volume, BUSYBOX, "sleep", "1000"]].concat());
    let directories = |path: &Path| fs::read_dir(path).expect("the parent").flatten().map(|entry| entry.path());
    let groups =
        || parents.iter().flat_map(|parent| directories(parent)).filter(|path| path.is_dir()).collect::<Vec<_>>();
    let group = groups().swap_remove(0);
    assert_eq!(fs::read_to_string(group.join("pids.max")).unwrap(), "99\n");
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let monitor = host.fcvm(["inspect", "--format", "{{.Vm.MonitorPid}}", "box"]).ok().text();
    // The file server too; and with KVM threads of the kernel.
    assert!(members.lines().count() >= 2 && members.lines().any(|pid| pid == monitor), "{members}");
    host.fcvm(["restart", "-t", "0", "box"]).ok();
    assert_eq!(groups().len(), parents.len());
    host.fcvm(["stop", "-t", "0", "box"]).ok();
    assert!(groups().is_empty());
    host.fcvm(["start", "box"]).ok();
    let owner: i32 = host.fcvm(["inspect", "--format", "{{.State.Pid}}", "box"]).ok().text().parse().unwrap();
    kill_process(Pid::from_raw(owner).unwrap(), Signal::KILL).unwrap();
    host.await_silence();
    host.fcvm(["rm", "box"]).ok();
    assert!(groups().is_empty());
    host.fcvm(["run", "--cgroup-conf", "pids.nothing=1", BUSYBOX]).failed(125, "pids.nothing");
    assert!(trees.iter().all(|tree| !tree.join("fcvm").exists()));
    host.fcvm(["run", "--cgroup-parent", "/../..", BUSYBOX]).failed(125, "cgroup");
    parents.iter().for_each(|parent| fs::remove_dir(parent).expect("nothing is in it"));
    host.assert_clean();
}
