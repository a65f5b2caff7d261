//! Stories of containers that run under a whole Podman in the guest.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Finished, Host, Terminal};

/// What a machine with Podman in it needs.
const FLAGS: [&str; 3] = ["--engine=podman", "--memory=600m", "--no-snapshot"];

/// A command in the guest system of the VM `box`.
fn in_guest(host: &Host, words: &[&str]) -> Finished {
    host.fcvm([&["exec", "--vm", "box"], words].concat())
}

#[test]
fn a_container_under_podman_can_be_asked_of_podman_and_others_run_beside_it() {
    let host = Host::with_podman();
    let check = ["--privileged", "--health-cmd=test -e /tmp/ok", "--health-interval=1s", "--health-retries=1"];
    let command = [BUSYBOX, "sh", "-c", "echo said; while :; do sleep 1; done"];
    let vm = host.start("box", &[&FLAGS[..], &check, &command].concat());
    assert_eq!(in_guest(&host, &["podman", "ps", "--format", "{{.Names}}"]).ok().text(), "container");

    let health = |host: &Host| {
        in_guest(host, &["podman", "inspect", "--format", "{{.State.Health.Status}}", "container"]).ok().text()
    };
    host.fcvm(["wait", "--condition", "unhealthy", "box"]).ok();
    assert_eq!(health(&host), "unhealthy");
    vm.exec(&["touch", "/tmp/ok"]).ok();
    host.fcvm(["wait", "--condition", "healthy", "box"]).ok();
    assert_eq!(health(&host), "healthy");

    // Podman's container and ours are one.
    let seen = in_guest(&host, &["podman", "exec", "container", "stat", "-c", "%n", "/tmp/ok"]);
    assert_eq!(seen.ok().text(), "/tmp/ok");
    assert_eq!(host.fcvm(["logs", "box"]).ok().text(), "said");
    let used = host.fcvm(["stats", "--no-stream", "--format", "{{.PIDS}}", "box"]).ok().text();
    assert!(used.parse::<u32>().is_ok_and(|count| count >= 2), "{used} processes");

    let build = "mkdir -p /tmp/b && cp /bin/busybox /tmp/b/sh && cd /tmp/b &&
        printf 'FROM scratch\\nADD sh /bin/sh\\nRUN [\"/bin/sh\", \"-c\", \"echo built > /file\"]\\n' > Containerfile &&
        podman build -q -t built . >/dev/null && podman run --rm built /bin/sh -c 'read line < /file; echo $line'";
    assert_eq!(in_guest(&host, &["sh", "-c", build]).ok().text(), "built");
    in_guest(&host, &["podman", "pod", "create", "--name", "pod"]).ok();
    assert_eq!(in_guest(&host, &["podman", "pod", "ps", "--format", "{{.Name}}"]).ok().text(), "pod");

    host.fcvm(["stop", "-t", "0", "box"]).ok();
    assert_eq!(host.fcvm(["inspect", "--format", "{{.State.ExitCode}}", "box"]).ok().text(), "137");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_container_under_podman_has_a_terminal_that_one_can_leave_and_come_back_to() {
    let host = Host::with_podman();
    let run = [&["run", "-it", "--name", "box"], &FLAGS[..], &[BUSYBOX, "sh"]].concat();
    let mut shell = Terminal::new(&host.command(run), 33, 101);
    shell.await_words("#");
    shell.type_keys("stty size; test -t 0 && echo mine\r");
    shell.await_words("33 101");
    shell.await_words("mine\n");
    shell.resize(20, 70);
    shell.type_keys("until [ \"$(stty size)\" = '20 70' ]; do :; done; echo now $(stty size)\r");
    shell.await_words("now 20 70");
    shell.type_keys("sleep 1000\r");
    let sleeping = "until ps | grep -q '[s]leep 1000$'; do :; done";
    host.vm("box").exec(&["timeout", "60", "sh", "-c", sleeping]).ok();
    shell.type_keys("\x03");
    shell.type_keys("echo code $?\r");
    shell.await_words("code 130");
    shell.type_keys("word=kept; echo $word now\r");
    shell.await_words("kept now");
    shell.type_keys("\x10\x11");
    assert_eq!(shell.finish().0, 0);

    let mut inner = Terminal::new(&host.command(["exec", "-it", "box", "sh"]), 24, 80);
    inner.await_words("#");
    inner.type_keys("stty size; exit 5\r");
    inner.await_words("24 80");
    assert_eq!(inner.finish().0, 5);

    let mut again = Terminal::new(&host.command(["attach", "box"]), 40, 120);
    again.type_keys("\r");
    again.await_words("#");
    again.type_keys("clear; echo it was $word\r");
    again.await_words("it was kept");
    again.type_keys("exit 9\r");
    assert_eq!(again.finish().0, 0);
    assert_eq!(host.fcvm(["inspect", "--format", "{{.State.ExitCode}}", "box"]).ok().text(), "9");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_container_under_podman_that_needs_too_much_memory_is_killed_and_that_is_told() {
    let host = Host::with_podman();
    let hog = "head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null";
    let run = ["run", "--engine=podman", "-m", "32m", "--no-snapshot", "--name", "hog", BUSYBOX, "sh", "-c", hog];
    assert_eq!(host.fcvm(run).code, 137);
    let state = host.fcvm(["inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hog"]).ok().text();
    assert_eq!(state, "true 137");
    host.fcvm(["rm", "hog"]).ok();
    host.assert_clean();
}

#[test]
fn streams_and_exit_codes_are_the_containers_under_podman_too() {
    let host = Host::with_podman();
    let run = [&["run", "--rm", "-i"], &FLAGS[..], &[BUSYBOX]].concat();
    let said = host.fcvm_with([&run[..], &["sh", "-c", "cat; echo error >&2; exit 7"]].concat(), b"in\0put\n".to_vec());
    assert_eq!((said.code, &said.stdout[..], said.stderr.as_str()), (7, &b"in\0put\n"[..], "error\n"));
    host.fcvm([&run[..], &["no-such-program"]].concat()).failed(127, "no-such-program");
    host.assert_clean();
}
