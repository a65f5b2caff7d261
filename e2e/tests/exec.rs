//! Stories of `exec`: a second process in a running container.

use fcvm_e2e::{BUSYBOX, Host, Started, sha256};
use std::io::Read;

#[test]
fn a_command_runs_in_the_container_with_its_own_streams_and_code() {
    let host = Host::new();
    let vm = host.start("box", &["-e", "A=1", "-w", "/www", BUSYBOX, "sleep", "1000"]);
    assert_eq!(vm.exec(&["sh", "-c", "pwd; echo $A; echo err >&2; exit 3"]).code, 3);
    assert_eq!(vm.exec(&["cat", "index.html"]).ok().text(), "hello from a microVM");
    assert_eq!(vm.exec(&["sh", "-c", "kill -15 $$"]).code, 143);
    vm.exec(&["no-such-program"]).failed(127, "no-such-program");
    vm.exec(&["/etc/noexec"]).failed(126, "/etc/noexec");
    let flags = ["exec", "-e", "B=2", "-w", "/tmp", "-u", "alice", "box", "sh", "-c", "echo $A$B; pwd; id -u"];
    assert_eq!(host.fcvm(flags).ok().text(), "12\n/tmp\n1000");
    let pid_1 = vm.exec(&["cat", "/proc/1/cmdline"]).ok().text();
    assert_eq!(pid_1.replace('\0', " ").trim(), "sleep 1000");
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn the_guest_system_is_reached_with_vm() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let comm = host.fcvm(["exec", "--vm", "box", "cat", "/proc/1/comm"]).ok().text();
    assert!(comm.contains("init") || comm.contains("agent"), "{comm}");
}

#[test]
fn a_hundred_megabytes_go_through_both_ways() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let bytes: Vec<u8> = (0..100_u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let echoed = host.fcvm_with(["exec", "-i", "box", "cat"], bytes.clone()).ok();
    assert_eq!(sha256(&echoed.stdout), sha256(&bytes));
}

#[test]
fn a_hundred_commands_at_once_all_answer_while_the_container_floods_its_output() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "yes", "flood"]);
    let answers: Vec<String> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let vm = &vm;
            move || vm.exec(&["echo", &number.to_string()]).ok().text()
        };
        let asked: Vec<_> = (0..100).map(|number| scope.spawn(ask(number))).collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(answers, expected);
}

#[test]
fn a_dead_client_ends_its_command_but_not_the_guest() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "sleep", "1000"]);
    let command = host.command(["exec", "box", "sh", "-c", "echo here; exec sleep 2000"]);
    let (started, mut stdout) = Started::streaming(command);
    let mut word = [0; 5];
    stdout.read_exact(&mut word).unwrap();
    started.signal(9);
    started.finish();
    let gone = "while ps | grep -q '[s]leep 2000'; do :; done; echo gone";
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", gone]).ok().text(), "gone");
}

#[test]
fn a_detached_command_outlives_its_client() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["exec", "-d", "box", "sh", "-c", "sleep 0.2; echo done > /tmp/done"]).ok();
    let there = "while ! [ -s /tmp/done ]; do :; done; cat /tmp/done";
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", there]).ok().text(), "done");
}

#[test]
fn a_vm_that_does_not_run_is_refused() {
    let host = Host::new();
    host.fcvm(["exec", "nobody", "true"]).failed(125, "nobody");
    host.fcvm(["run", "--name", "ended", BUSYBOX, "true"]).ok();
    host.fcvm(["exec", "ended", "true"]).failed(125, "ended");
}
