//! Directories and files of the host in a container: `-v`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Started, sh, tree, volume};
use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn a_container_works_with_the_hosts_files_as_if_they_were_its_own() {
    let host = Host::new();
    let (src, fixed, inner) = (tree(&host, "src"), tree(&host, "fixed"), tree(&host, "inner"));
    fs::write(src.join("run"), "#!/bin/sh\necho started from a volume\nexec sleep 1000\n").unwrap();
    fs::set_permissions(src.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../../../../../../etc/hostname", src.join("out")).unwrap();
    let (rw, ro, nested) = (volume(&src, "/src"), volume(&fixed, "/fixed:ro"), volume(&inner, "/src/in/side"));
    let file = format!("type=bind,source={},target=/etc/one,ro", src.join("hello").display());
    fs::create_dir_all(src.join("in/side")).unwrap();
    // What lies in another is named first.
    let args = ["-v", &nested, "-v", &rw, "-v", &ro, "--mount", &file, BUSYBOX, "/src/run"];
    let vm = host.start("box", &args);
    let (follow, words) = Started::streaming(host.command(["logs", "-f", "box"]));
    let mut said = String::new();
    BufReader::new(words).read_line(&mut said).unwrap();
    assert_eq!(said, "started from a volume\n");
    follow.signal(15);
    follow.finish();

    // Read, write, rename, link; attributes as on the host.
    assert_eq!(
        sh(&vm, "cat /src/hello /src/deep/er/file /src/in/side/hello /etc/one"),
        "from the host\ndeep\nfrom the host\nfrom the host"
    );
    sh(
        &vm,
        "cd /src && echo new > a && busybox mv a b && busybox ln b c && busybox ln -s b d && mkdir -p x/y && busybox chmod 600 b && busybox chown 1000:50 b",
    );
    let found = fs::metadata(src.join("b")).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid(), found.nlink()), (0o600, 1000, 50, 2));
    assert_eq!(fs::read_to_string(src.join("d")).unwrap(), "new\n");
    assert!(src.join("x/y").is_dir());
    assert!(sh(&vm, "grep src /proc/mounts").contains("nosuid,nodev"));

    // Much of it, both ways.
    sh(&vm, "head -c 20000000 /dev/urandom > /src/big");
    let sum = sh(&vm, "sha256sum < /src/big");
    assert_eq!(sum.split(' ').next(), Some(fcvm_e2e::sha256(&fs::read(src.join("big")).unwrap()).as_str()));

    // A user of the guest has that user's rights.
    let as_alice = |command: &[&str]| host.fcvm(["exec", "-u", "alice", "box"].iter().chain(command));
    as_alice(&["cat", "/src/b"]).ok();
    as_alice(&["touch", "/src/hers"]).failed(1, "Permission denied");

    // What someone else writes into is nobody's identity any more.
    sh(&vm, "echo '#!/bin/sh' > /src/rights && busybox chmod 6777 /src/rights");
    as_alice(&["sh", "-c", "echo true >> /src/rights"]).ok();
    assert_eq!(fs::metadata(src.join("rights")).unwrap().mode() & 0o7777, 0o777);

    // What is to be read only is so, and a link leads out of the volume in the guest alone.
    vm.exec(&["touch", "/fixed/x"]).failed(1, "Read-only file system");
    vm.exec(&["sh", "-c", "echo x > /etc/one"]).failed(1, "Read-only file system");
    assert_eq!(sh(&vm, "cat /src/out"), sh(&vm, "cat /etc/hostname"));

    // What the host changes is seen.
    fs::write(src.join("hello"), "changed\n").unwrap();
    fs::write(src.join("fresh"), "fresh\n").unwrap();
    assert_eq!(sh(&vm, "until grep -q changed /src/hello; do :; done; cat /src/fresh"), "fresh");

    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    assert_eq!(fs::read_to_string(src.join("c")).unwrap(), "new\n");
    host.assert_clean();
}

#[test]
fn files_that_are_open_go_on_in_a_clone_and_nothing_is_written_twice() {
    let host = Host::new();
    let src = tree(&host, "src");
    fs::write(src.join("other"), "other\n").unwrap();
    let count =
        "cd /src/deep; exec 3>>/src/log 4</src/other 5</src/hello; i=0; while :; do i=$((i+1)); echo $i >&3; done";
    let source = host.start("source", &["-v", &volume(&src, "/src"), BUSYBOX, "sh", "-c", count]);
    sh(&source, "until [ $(wc -l < /src/log) -gt 50 ]; do :; done");
    host.fcvm(["snapshot", "create", "source", "--tag", "s"]).ok();
    let lines = fs::read_to_string(src.join("log")).unwrap().lines().count();
    sh(&source, &format!("until [ $(wc -l < /src/log) -gt {} ]; do :; done", lines + 50));
    host.fcvm(["rm", "-f", "-t", "0", "source"]).ok();
    let log = fs::read_to_string(src.join("log")).unwrap();
    let numbers = |log: &str| log.lines().map(|line| line.parse().unwrap()).collect::<Vec<u64>>();
    let written = numbers(&log);
    assert_eq!(written, (1..=written.len() as u64).collect::<Vec<_>>());

    // One file becomes another while nothing runs.
    fs::rename(src.join("hello"), src.join("moved")).unwrap();
    fs::write(src.join("replacement"), "not what it was\n").unwrap();
    fs::rename(src.join("replacement"), src.join("other")).unwrap();
    fs::write(src.join("log"), "").unwrap();
    host.fcvm(["snapshot", "run", "s", "-d", "--name", "clone"]).ok();
    let clone = host.vm("clone");
    assert_eq!(sh(&clone, "until [ $(wc -l < /src/log) -gt 20 ]; do :; done; cat /proc/1/cwd/er/file"), "deep");
    clone.exec(&["cat", "/proc/1/fd/4"]).failed(1, "");
    assert_eq!(sh(&clone, "cat /src/other"), "not what it was");
    host.fcvm(["rm", "-f", "-t", "0", "clone"]).ok();
    let log = fs::read_to_string(src.join("log")).unwrap();
    let written = numbers(&log);
    assert!(written.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{written:?}");
    host.fcvm(["snapshot", "rm", "s"]).ok();
    host.assert_clean();
}

#[test]
fn what_the_host_takes_away_is_an_error_of_its_own_and_the_volume_goes_on() {
    let host = Host::new();
    let (src, moved) = (tree(&host, "src"), host.path().join("moved"));
    let small = Small::mounted(&host);
    let busy = "while :; do echo x > /src/load; done 2> /dev/null";
    let args = ["-v", &volume(&src, "/src"), "-v", &volume(&small.0, "/small"), BUSYBOX, "sh", "-c", busy];
    let vm = host.start("box", &args);

    // A full disk, and room again; one that the host unmounts stays the guest's.
    vm.exec(&["dd", "if=/dev/zero", "of=/small/big", "bs=64k", "count=32"]).failed(1, "No space left on device");
    sh(&vm, "rm /small/big && echo fits > /small/x");
    drop(small);
    assert_eq!(sh(&vm, "cat /small/x"), "fits");

    // Rights that come and go.
    let deep = |mode| fs::set_permissions(src.join("deep"), fs::Permissions::from_mode(mode)).unwrap();
    let as_alice = |script: &str| host.fcvm(["exec", "-u", "alice", "box", "sh", "-c", script]);
    as_alice("cat /src/deep/er/file").ok();
    deep(0o700);
    as_alice("while cat /src/deep/er/file; do :; done; exec cat /src/deep/er/file").failed(1, "Permission denied");
    deep(0o755);
    as_alice("until cat /src/deep/er/file; do :; done").ok();

    // It is the directory that is a volume, not its name.
    fs::rename(&src, &moved).unwrap();
    sh(&vm, "echo there > /src/after");
    assert_eq!(fs::read_to_string(moved.join("after")).unwrap(), "there\n");
    fs::rename(&moved, &src).unwrap();

    // The server dies under load: another one takes its place, and what is written later is the host's.
    let first = host.file_server("box");
    kill_process(first, Signal::KILL).unwrap();
    sh(&vm, "until echo again > /src/again; do :; done 2> /dev/null; until cat /src/deep/er/file; do :; done");
    assert_eq!(fs::read_to_string(src.join("again")).unwrap(), "again\n");
    assert_ne!(host.file_server("box"), first);

    // What is removed is gone, and nothing else.
    while src.exists() {
        let _the_container_writes_meanwhile = fs::remove_dir_all(&src);
    }
    vm.exec(&["touch", "/src/late"]).failed(1, "No such file or directory");
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn commands_start_while_the_agent_has_files_of_a_volume_open_itself() {
    let host = Host::new();
    let (src, many) = (tree(&host, "src"), host.path().join("many"));
    fs::create_dir(&many).unwrap();
    for number in 0..200 {
        fs::write(many.join(number.to_string()), "x").unwrap();
    }
    fs::write(src.join("passwd"), "root:x:0:0:root:/root:/bin/sh\ncarol:x:1234:100::/:/bin/sh\n").unwrap();
    let file = volume(&src.join("passwd"), "/etc/passwd");
    let (cached, direct) = (volume(&src, "/src"), volume(&src, "/direct:cache=none"));
    let args = ["-v", &cached, "-v", &direct, "-v", &file, "-u", "1234", BUSYBOX, "sleep", "1000"];
    let vm = host.start("box", &args);
    assert!(host.fcvm(["top", "box", "user", "pid"]).ok().text().contains("carol"));
    // The agent copies, and raises events of a file that was written and closed, while it starts programs.
    let copied = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (inside, back) = (Path::new("box:/src/copy"), host.path().join("back"));
            host.fcvm([Path::new("cp"), &many, inside]).ok();
            host.fcvm([Path::new("cp"), inside, &back]).ok();
            copied.store(true, Ordering::Release);
        });
        while !copied.load(Ordering::Acquire) {
            fs::write(src.join("hello"), "again\n").unwrap();
            vm.exec(&["true"]).ok();
        }
    });
    assert_eq!(fs::read_dir(src.join("copy")).unwrap().count(), 200);
    // What goes straight from a file to a pipe (sendfile) holds the pipe's lock while the volume is asked.
    fs::rename(&many, src.join("many")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(vm.exec(&["sh", "-c", "exec cat /direct/many/*"]).ok().text().len(), 200));
        }
    });
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn ten_clones_read_one_volume_and_each_sees_what_the_others_write() {
    let host = Host::new();
    let src = tree(&host, "src");
    for number in 0..50 {
        fs::write(src.join(format!("f{number:02}")), format!("{number}\n").repeat(1000)).unwrap();
    }
    let source = host.start("source", &["-v", &volume(&src, "/src"), BUSYBOX, "sleep", "1000"]);
    let whole = sh(&source, "cat /src/f* | sha256sum");
    host.fcvm(["snapshot", "create", "source", "--tag", "s"]).ok();
    host.fcvm(["rm", "-f", "-t", "0", "source"]).ok();
    let names: Vec<String> = (0..10).map(|number| format!("clone{number}")).collect();
    for name in &names {
        host.fcvm(["snapshot", "run", "s", "-d", "--name", name]).ok();
    }
    let (host_of, whole) = (&host, &whole);
    std::thread::scope(|scope| {
        for name in &names {
            let read = move || {
                let script = format!("echo {name} > /src/{name}; cat /src/f* | sha256sum");
                assert_eq!(&sh(&host_of.vm(name), &script), whole, "{name}");
            };
            scope.spawn(read);
        }
    });
    // What one has read already is another thing for all of them as soon as one has written it.
    sh(&host.vm("clone0"), "echo new > /src/f00");
    for name in &names {
        assert_eq!(sh(&host.vm(name), "until grep -q new /src/f00; do :; done; cat /src/clone*").lines().count(), 10);
    }
    host.fcvm(["rm", "-f", "-t", "0"].into_iter().chain(names.iter().map(String::as_str))).ok();
    host.fcvm(["snapshot", "rm", "s"]).ok();
    host.assert_clean();
}

#[test]
fn a_volume_that_does_not_answer_keeps_nobody_waiting_but_who_asks_it() {
    let host = Host::new();
    let src = tree(&host, "src");
    let vm = host.start("box", &["-v", &volume(&src, "/src"), BUSYBOX, "sleep", "1000"]);
    let script = "echo $$; exec 4<&0; (exec 3</src/hello; echo open; read go <&4; > /tmp/go; exec cat - <&3) & \
        until [ -e /tmp/go ]; do :; done; \
        while :; do read where < /proc/$!/wchan; case $where in request_wait*|folio_wait*) exit 0;; esac; done";
    let (mut held, words) = Started::streaming(host.command(["exec", "-i", "box", "sh", "-c", script]));
    let mut words = BufReader::new(words).lines();
    let (shell, _open) = (words.next().unwrap().unwrap(), words.next().unwrap().unwrap());
    let server = host.file_server("box");
    kill_process(server, Signal::STOP).unwrap();
    held.stdin().write_all(b"go\n").unwrap();
    sh(&vm, &format!("while [ -d /proc/{shell} ]; do :; done"));
    assert_eq!(vm.exec(&["echo", "answers"]).ok().text(), "answers");
    kill_process(server, Signal::CONT).unwrap();
    held.finish().ok();
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

/// A file system of one mebibyte; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mounted(host: &Host) -> Self {
        let place = host.path().join("small");
        fs::create_dir(&place).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "small"]).arg(&place).status().unwrap();
        assert!(mounted.success());
        Self(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("--lazy").arg(&self.0).status().is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_volume_that_cannot_be_is_refused_before_there_is_a_vm() {
    let host = Host::new();
    let run = |volumes: &[&str]| host.fcvm(["run", "--rm"].iter().chain(volumes).chain(&[BUSYBOX, "true"]));
    run(&["-v", "/nope:/x"]).failed(125, "statfs /nope");
    run(&["-v", "/tmp:/x", "--tmpfs", "/x"]).failed(125, "/x: duplicate mount destination");
    run(&["-v", "/tmp:x"]).failed(125, "its target is an absolute path");
    run(&["-v", "/tmp:/x:wrong"]).failed(125, "volume option");
    host.assert_clean();
}
