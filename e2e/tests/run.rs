//! Stories of `run`: what a container in a VM of its own looks like from outside.

use fcvm_e2e::{BUSYBOX, Host, Started, sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

#[test]
fn a_container_runs_on_a_kernel_of_its_own() {
    let host = Host::new();
    let release = host.fcvm(["run", "--rm", BUSYBOX, "uname", "-r"]).ok().text();
    assert!(release.contains("cloud"), "{release}");
    // The host may have the same release, but every kernel that starts draws a number of its own.
    let started = "/proc/sys/kernel/random/boot_id";
    let guest = host.fcvm(["run", "--rm", BUSYBOX, "cat", started]).ok().text();
    assert_ne!(guest, std::fs::read_to_string(started).unwrap().trim());
    host.assert_clean();
}

#[test]
fn exit_codes_are_the_containers() {
    let host = Host::new();
    let run = |command: &[&str]| host.fcvm(["run", "--rm", BUSYBOX].iter().chain(command));
    assert_eq!(run(&["sh", "-c", "exit 42"]).code, 42);
    run(&["no-such-program"]).failed(127, "no-such-program");
    run(&["/etc/noexec"]).failed(126, "/etc/noexec");
    host.fcvm(["run", "--rm", "-u", "nobody", BUSYBOX, "true"]).failed(126, "nobody");
    host.assert_clean();
}

#[test]
fn output_and_input_are_byte_exact() {
    let host = Host::new();
    let bytes: Vec<u8> = (0..8 << 20).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let echoed = host.fcvm_with(["run", "--rm", "-i", BUSYBOX, "cat"], bytes.clone()).ok();
    assert_eq!(sha256(&echoed.stdout), sha256(&bytes));
    let split = host.fcvm(["run", "--rm", BUSYBOX, "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((split.text().as_str(), split.stderr.as_str()), ("out", "err\n"));
    host.assert_clean();
}

#[test]
fn a_hundred_megabytes_come_out_whole() {
    let host = Host::new();
    let script = "dd if=/dev/urandom of=/tmp/x bs=1M count=100 2>/dev/null; sha256sum /tmp/x >&2; cat /tmp/x";
    let finished = host.fcvm(["run", "--rm", BUSYBOX, "sh", "-c", script]).ok();
    assert_eq!(finished.stdout.len(), 100 << 20);
    assert!(finished.stderr.starts_with(&sha256(&finished.stdout)), "{}", finished.stderr);
}

#[test]
fn the_process_is_what_image_and_flags_make_it() {
    let host = Host::new();
    let run = |flags: &[&str], command: &[&str]| {
        let flags = ["run", "--rm"].iter().chain(flags).chain(&[BUSYBOX]);
        host.fcvm(flags.chain(command)).ok().text()
    };
    let env = run(&["-e", "A=1", "-e", "A=2", "--hostname", "box"], &["env"]);
    for line in ["A=2", "FROM_IMAGE=yes", "HOSTNAME=box", "HOME=/root"] {
        assert!(env.lines().any(|known| known == line), "{line} is not in:\n{env}");
    }
    assert_eq!(run(&["-w", "/www", "-u", "alice"], &["sh", "-c", "pwd; id -u; id -G"]), "/www\n1000\n1000 50");
    assert_eq!(run(&["--entrypoint", "echo"], &["a", "b"]), "a b");
    assert_eq!(
        run(&["--hostname", "box", "--add-host", "db:192.0.2.1"], &["grep", "-c", "192.0.2.1.db", "/etc/hosts"]),
        "1"
    );
    assert_eq!(
        run(&["--read-only", "--tmpfs", "/scratch"], &["sh", "-c", "touch /x || touch /scratch/x && echo ok"]),
        "ok"
    );
    assert_eq!(run(&["--ulimit", "nofile=77:99"], &["sh", "-c", "ulimit -n"]), "77");
    host.assert_clean();
}

#[test]
fn a_privileged_container_has_the_guests_devices_and_capabilities() {
    let host = Host::new();
    let script = "test -b /dev/vda; echo $?; grep CapEff /proc/self/status; echo hello > /dev/null; \
        cat /sys/class/misc/hw_random/rng_current; test ! -c /dev/hwrng || head -c 64 /dev/hwrng | wc -c";
    let run = |flags: &[&str]| {
        let command = [BUSYBOX, "sh", "-c", script];
        host.fcvm(["run", "--rm"].iter().chain(flags).chain(&command)).ok().text()
    };
    let privileged = run(&["--privileged", "--init"]);
    assert!(privileged.starts_with("0\n") && privileged.contains("1ffffffffff"), "{privileged}");
    assert!(privileged.ends_with("\nvirtio_rng.0\n64"), "the monitor's random numbers reach the kernel: {privileged}");
    let plain = run(&[]);
    assert!(plain.starts_with("1\n") && plain.ends_with("\nvirtio_rng.0"), "{plain}");
    host.assert_clean();
}

#[test]
fn a_signal_to_the_client_reaches_the_container() {
    let host = Host::new();
    let script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let (started, stdout) = Started::streaming(host.command(["run", "--rm", BUSYBOX, "sh", "-c", script]));
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    started.signal(15);
    assert_eq!(lines.next().unwrap().unwrap(), "got it");
    assert_eq!(started.finish().code, 7);
    host.assert_clean();
}

#[test]
fn of_two_runs_with_one_name_one_wins() {
    let host = Host::new();
    let _first = host.start("twin", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["run", "--rm", "--name", "twin", BUSYBOX, "true"]).failed(125, "twin");
    host.fcvm(["rm", "-f", "-t", "0", "twin"]).ok();
    host.assert_clean();
}

#[test]
fn what_is_wrong_is_said_in_a_sentence_and_leaves_nothing() {
    let host = Host::new();
    let run = |args: &[&str]| host.fcvm(["run", "--rm"].iter().chain(args));
    run(&["--pull=never", "localhost/no-such-image", "true"]).failed(125, "no-such-image");
    run(&["--no-such-flag", BUSYBOX]).failed(125, "--no-such-flag");
    run(&["-v", "/nonexistent:/b", BUSYBOX]).failed(125, "/nonexistent");
    run(&["--device", "/dev/null", BUSYBOX]).failed(125, "--device");
    run(&["--name", &"x".repeat(3000), BUSYBOX, "true"]).failed(125, "name");
    run(&["--kernel", "/nonexistent", BUSYBOX, "true"]).failed(125, "/nonexistent");
    run(&["--vmm", "firecracker", "--firecracker", "/nonexistent", BUSYBOX, "true"]).failed(125, "/nonexistent");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    run(&["-p", &format!("{port}:80"), BUSYBOX, "true"]).failed(125, &port);
    host.assert_clean();
}

#[test]
fn a_directory_of_the_host_is_a_root_that_is_copied_not_shared() {
    let host = Host::empty();
    let root = host.path().join("root");
    for dir in ["bin", "data"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/sh")).unwrap();
    std::fs::write(root.join("data/file"), "from the host").unwrap();
    let script = "read -r line < /data/file; echo $line; echo changed > /data/file";
    let flags = ["run", "--rm", "--rootfs", root.to_str().unwrap(), "/bin/sh", "-c", script];
    assert_eq!(host.fcvm(flags).ok().text(), "from the host");
    assert_eq!(std::fs::read_to_string(root.join("data/file")).unwrap(), "from the host");
    host.assert_clean();
}

#[test]
fn an_init_reaps_passes_signals_on_and_ends_as_the_command_ends() {
    let host = Host::new();
    let script = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
    let vm = host.start("box", &["--init", "--read-only", "-u", "alice", BUSYBOX, "sh", "-c", script]);
    let pid_1 = vm.exec(&["cat", "/proc/1/cmdline"]).ok().text().replace('\0', " ");
    assert!(pid_1.starts_with("/dev/init -- sh -c"), "{pid_1}");
    let orphan = vm.exec(&["sh", "-c", "(true & echo $!)"]).ok().text();
    let reaped = format!("while [ -e /proc/{orphan} ]; do :; done; echo reaped");
    assert_eq!(vm.exec(&["timeout", "60", "sh", "-c", &reaped]).ok().text(), "reaped");
    host.fcvm(["stop", "box"]).ok();
    assert_eq!(host.fcvm(["wait", "box"]).ok().text(), "7");
    host.fcvm(["run", "--rm", "--init", BUSYBOX, "no-such-program"]).failed(127, "no-such-program");
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_signal_does_not_wait_behind_input_that_nobody_reads() {
    let host = Host::new();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let command = host.command(["run", "--rm", "-i", BUSYBOX, "sh", "-c", script]);
    let (mut started, mut stdout) = Started::streaming(command);
    stdout.read_exact(&mut [0; 6]).unwrap();
    let mut stdin = File::from(started.stdin().as_fd().try_clone_to_owned().unwrap());
    let (sender, written) = std::sync::mpsc::channel();
    // More than all buffers on the way hold: the last write fails when the client ends.
    let feeder = std::thread::spawn(move || {
        while stdin.write_all(&[7; 64 << 10]).is_ok() {
            let _ = sender.send(());
        }
    });
    assert_eq!(written.iter().take(10).count(), 10);
    started.signal(15);
    assert_eq!(started.finish().code, 7);
    feeder.join().unwrap();
    host.assert_clean();
}
