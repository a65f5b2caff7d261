//! Stories of snapshots: machines that are captured while they work, and copies of them that are right from the first
//! moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Run, Started, free_port, get, sha256};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Starts copies of a snapshot in the background and returns what was said of each.
fn clones(host: &Host, snapshot: &str, flags: &[&str]) -> Vec<Value> {
    let base = ["snapshot", "run", "-d", "--json", "--rm"];
    let said = host.fcvm(base.iter().chain(flags).chain(&[snapshot])).ok().text();
    said.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn clone<'h>(host: &'h Host, snapshot: &str, name: &str) -> Run<'h> {
    clones(host, snapshot, &["--name", name]);
    host.vm(name)
}

fn remove(host: &Host, vms: &[&str]) {
    host.fcvm(["rm", "-f", "-t", "0"].iter().chain(vms)).ok();
}

/// Runs the same thing in many threads and returns what each came to.
fn together<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let act = &act;
        let acting: Vec<_> = (0..count).map(|number| scope.spawn(move || act(number))).collect();
        acting.into_iter().map(|acted| acted.join().unwrap()).collect()
    })
}

fn distinct(texts: &[String]) -> usize {
    texts.iter().collect::<HashSet<_>>().len()
}

/// How many copies are asked at their first moment: fewer where a second emulation makes each take a minute.
fn rounds() -> usize {
    std::env::var("FCVM_TEST_ROUNDS").map_or(100, |text| text.parse().expect("FCVM_TEST_ROUNDS is a number"))
}

#[test]
fn ten_commands_at_the_instant_a_clone_is_announced_are_all_answered() {
    let rounds = rounds();
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    let mut answered = 0;
    for round in 0..rounds {
        let vm = clone(&host, "warm", "copy");
        let answers = together(10, |number| vm.exec(&["echo", &format!("{round} {number}")]).ok().text());
        answered += answers.iter().enumerate().filter(|(number, text)| **text == format!("{round} {number}")).count();
        remove(&host, &["copy"]);
    }
    assert_eq!(answered, rounds * 10);
    println!("{rounds} copies were asked ten times each");
    remove(&host, &["box"]);
    host.assert_clean();
}

#[test]
fn clones_of_clones_have_what_was_written_before_them_and_nothing_that_was_written_beside_them() {
    let host = Host::new();
    let write = |vm: &Run<'_>, level: &str| vm.exec(&["sh", "-c", &format!("echo {level} >> /var/levels")]).ok();
    let levels = |vm: &Run<'_>| vm.exec(&["cat", "/var/levels"]).ok().text();
    let first = host.start("first", &[BUSYBOX, "sleep", "1000"]);
    write(&first, "one");
    host.fcvm(["snapshot", "create", "--tag", "s1", "first"]).ok();
    write(&first, "beside");
    let second = clone(&host, "s1", "second");
    write(&second, "two");
    host.fcvm(["snapshot", "create", "--tag", "s2", "second"]).ok();
    write(&second, "beside");
    let third = clone(&host, "s2", "third");
    write(&third, "three");
    host.fcvm(["snapshot", "create", "--tag", "s3", "third"]).ok();

    // What the last one needs of the middle one is its own too.
    remove(&host, &["second"]);
    host.fcvm(["snapshot", "rm", "s2"]).ok();
    host.fcvm(["snapshot", "verify", "s1", "s3"]).ok();
    assert_eq!(levels(&clone(&host, "s3", "fourth")), "one\ntwo\nthree");
    assert_eq!(levels(&third), "one\ntwo\nthree");

    let owner = |vm: &str| host.fcvm(["inspect", "--format", "{{.State.Pid}} {{.Id}}", vm]).ok().text();
    let before = owner("first");
    assert_eq!(levels(&first), "one\nbeside");
    host.fcvm(["rewind", "first", "s1"]).ok();
    assert_eq!(levels(&first), "one");
    assert_eq!(owner("first"), before);
    host.fcvm(["rewind", "first", "s3"]).ok();
    assert_eq!(levels(&first), "one\ntwo\nthree");
    remove(&host, &["first", "third", "fourth"]);
    host.assert_clean();
}

/// Reads lines that count from 0 to the end and returns how many there were.
fn counted(stdout: impl Read) -> usize {
    let mut count = 0;
    for line in BufReader::new(stdout).lines() {
        assert_eq!(line.unwrap(), count.to_string());
        count += 1;
    }
    count
}

#[test]
fn a_snapshot_while_everything_flows_loses_nothing_and_repeats_nothing() {
    const STREAMS: usize = 20;
    const HALF: usize = 1 << 20;
    let host = Host::new();
    let port = free_port();
    let count = "httpd -p 80 -h /www; i=0; while [ ! -e /tmp/end ]; do echo $i; i=$((i+1)); done";
    let publish = format!("{port}:80");
    let source = host.command(["run", "--name", "box", "-p", &publish, BUSYBOX, "sh", "-c", count]);
    let (source, mut output) = Started::streaming(source);
    output.read_exact(&mut [0; 2]).unwrap();
    let counting = std::thread::spawn(move || counted(b"0\n".chain(output)));

    let bytes = |number: usize| -> Vec<u8> { (0..2 * HALF).map(|index| ((index * (number + 3)) >> 7) as u8).collect() };
    let mut feeds = Vec::new();
    let mut echoes = Vec::new();
    for number in 0..STREAMS {
        let (mut exec, mut echo) = Started::streaming(host.command(["exec", "-i", "box", "cat"]));
        let bytes = bytes(number);
        let (taken, wait) = std::sync::mpsc::channel::<()>();
        feeds.push((
            taken,
            std::thread::spawn(move || {
                exec.stdin().write_all(&bytes[..HALF]).unwrap();
                wait.recv().unwrap();
                exec.stdin().write_all(&bytes[HALF..]).unwrap();
                exec.finish().ok();
            }),
        ));
        echoes.push(std::thread::spawn(move || {
            let mut echoed = Vec::new();
            echo.read_to_end(&mut echoed).unwrap();
            echoed
        }));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(get(port, "/index.html").ends_with("hello from a microVM\n"));
                answers += 1;
            }
            answers
        });
        for tag in ["a", "b", "c"] {
            host.fcvm(["snapshot", "create", "--tag", tag, "box"]).ok();
        }
        done.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
    for (taken, feed) in feeds {
        taken.send(()).unwrap();
        feed.join().unwrap();
    }
    for (number, echo) in echoes.into_iter().enumerate() {
        assert_eq!(sha256(&echo.join().unwrap()), sha256(&bytes(number)), "stream {number}");
    }
    // It may die with the container, whose end it brings.
    host.vm("box").exec(&["touch", "/tmp/end"]);
    source.finish().ok();
    assert!(counting.join().unwrap() > 1);

    // In a copy nobody is at the other end of these streams.
    let copy = clone(&host, "b", "copy");
    let ended = "while ps | grep -q '[c]at$'; do :; done; echo ended";
    assert_eq!(copy.exec(&["timeout", "60", "sh", "-c", ended]).ok().text(), "ended");
    remove(&host, &["box", "copy"]);
    host.assert_clean();
}

#[test]
fn many_copies_start_from_one_snapshot_at_once_and_beside_others() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sh", "-c", "while :; do :; done"]);
    host.fcvm(["snapshot", "create", "--tag", "busy", "box"]).ok();
    let pair = together(2, |number| clones(&host, "busy", &["--name", &format!("pair-{number}")]));
    assert_eq!(pair.len(), 2);
    assert_eq!(host.vm("pair-0").exec(&["echo", "here"]).ok().text(), "here");
    remove(&host, &["box", "pair-0", "pair-1"]);

    host.start("idle", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "idle", "idle"]).ok();
    let said = clones(&host, "idle", &["-n", "50", "--name", "copy"]);
    assert_eq!(said.len(), 50);
    let names: Vec<String> = (1..=50).map(|number| format!("copy-{number}")).collect();
    let answers = together(50, |number| host.vm(&names[number]).exec(&["hostname"]).ok().text());
    assert_eq!(distinct(&answers), 50);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    remove(&host, &names);
    remove(&host, &["idle"]);
    host.assert_clean();
}

fn now_ms() -> i128 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i128::try_from(since.as_millis()).expect("a clock of this age")
}

/// Asserts that the guest's clock is the host's, as far as a command can tell.
#[track_caller]
fn assert_clock(vm: &Run<'_>) {
    const OFF_MS: i128 = 50;
    let before = now_ms();
    let said = vm.exec(&["busybox", "adjtimex"]).ok().text();
    let after = now_ms();
    let number = |name: &str| -> i128 {
        let line = said.lines().find_map(|line| line.trim_start().strip_prefix(name)).unwrap_or("no such line");
        line.trim_matches(|letter: char| !letter.is_ascii_digit()).parse().unwrap()
    };
    let guest = number("time.tv_sec:") * 1000 + number("time.tv_usec:") / 1000;
    assert!((before - OFF_MS..=after + OFF_MS).contains(&guest), "{before} <= {guest} <= {after}");
}

#[test]
fn copies_differ_from_each_other_and_from_their_source_where_they_must() {
    let host = Host::new();
    host.start("box", &["-e", "A=source", BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    let said = clones(&host, "warm", &["-n", "3", "--name", "copy"]);
    let vms = ["box", "copy-1", "copy-2", "copy-3"].map(|name| host.vm(name));
    vms.iter().for_each(assert_clock);
    for command in [
        "head -c 16 /dev/urandom | od -An -tx1",
        "cat /proc/sys/kernel/random/uuid",
        "cat /etc/machine-id",
        "hostname",
        "cat /etc/hostname",
        "echo $HOSTNAME",
        "grep -o '10.0.2.100.*' /etc/hosts",
    ] {
        let answers: Vec<_> = vms.iter().map(|vm| vm.exec(&["sh", "-c", command]).ok().text()).collect();
        assert_eq!(distinct(&answers), 4, "{command}: {answers:?}");
    }
    let line = |name: &str| said.iter().map(|line| line["restored"]["receipt"][name].to_string()).collect::<Vec<_>>();
    for name in ["epoch", "random", "hostname", "machine_id"] {
        assert_eq!(distinct(&line(name)), 3, "{name}: {:?}", line(name));
    }
    remove(&host, &["box", "copy-1", "copy-2", "copy-3"]);
    host.assert_clean();
}

#[test]
fn copies_of_a_server_agree_on_other_session_keys_with_their_clients() {
    let host = Host::debian();
    let serve =
        "cd /root; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout key -out certificate 2> /dev/null
        exec openssl s_server -quiet -accept 4433 -key key -cert certificate -keylogfile /root/keys";
    let vm = host.start("box", &[fcvm_e2e::DEBIAN, "sh", "-c", serve]);
    let key = |vm: &Run<'_>| {
        let connect = "until echo | openssl s_client -connect 127.0.0.1:4433 > /dev/null 2>&1; do :; done
            grep SERVER_TRAFFIC_SECRET_0 /root/keys | tail -n 1 | cut -d ' ' -f 3";
        vm.exec(&["sh", "-c", connect]).ok().text()
    };
    // Before the snapshot too, so that the server has random state of its own.
    let first = key(&vm);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    clones(&host, "warm", &["-n", "2", "--name", "copy"]);
    let keys = [first, key(&vm), key(&host.vm("copy-1")), key(&host.vm("copy-2"))];
    assert!(keys.iter().all(|key| key.len() == 96), "{keys:?}");
    assert_eq!(distinct(&keys), 4, "{keys:?}");
    remove(&host, &["box", "copy-1", "copy-2"]);
    host.assert_clean();
}

#[test]
fn a_copy_is_given_variables_a_host_name_and_ports_of_its_own() {
    let host = Host::new();
    let (port, other) = (free_port(), free_port());
    let publish = |port: u16| format!("{port}:80");
    let flags = ["-e", "A=source", "-e", "B=both", "-p", &publish(port), "-u", "alice", BUSYBOX];
    let vm = host.start("box", &[&flags[..], &["sh", "-c", "httpd -p 8080 -h /www; sleep 1000"]].concat());
    vm.exec(&["sh", "-c", "while ! grep -q ':1F90 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done"]).ok();
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    let given = ["--name", "copy", "-e", "A=copy", "-e", "SECRET=s3cret", "--hostname", "duplicate"];
    clones(&host, "warm", &[&given[..], &["-p", &format!("{other}:8080")]].concat());
    let copy = host.vm("copy");
    assert_eq!(copy.exec(&["sh", "-c", "echo $A $B $SECRET; hostname"]).ok().text(), "copy both s3cret\nduplicate");
    assert_eq!(copy.exec(&["cat", "/run/fcvm/env"]).ok().text(), "A=copy\nSECRET=s3cret");
    assert_eq!(copy.exec(&["stat", "-c", "%a %U", "/run/fcvm/env"]).ok().text(), "400 alice");
    vm.exec(&["cat", "/run/fcvm/env"]).failed(1, "No such file");
    assert!(get(other, "/index.html").ends_with("hello from a microVM\n"));
    // A copy of the copy has them as well, and its own over them.
    host.fcvm(["snapshot", "create", "--tag", "warmer", "copy"]).ok();
    clones(&host, "warmer", &["--name", "next", "-e", "A=next"]);
    let next = host.vm("next");
    assert_eq!(next.exec(&["cat", "/run/fcvm/env"]).ok().text(), "SECRET=s3cret\nA=next");
    host.fcvm(["snapshot", "run", "-d", "-e", "A=1\n2", "warm"]).failed(125, "the variable A has a line break");
    host.fcvm(["snapshot", "run", "-d", "-m", "1g", "warm"]).failed(125, "--memory cannot be changed");
    host.fcvm(["snapshot", "run", "-d", "-n", "2", "-p", "81:80", "warm"]).failed(125, "cannot all publish port 81");
    remove(&host, &["box", "copy", "next"]);
    host.assert_clean();
}

#[test]
fn connections_of_the_source_go_on_there_and_are_over_in_a_copy() {
    let host = Host::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let out = listener.local_addr().unwrap().port();
    let port = free_port();
    let script = format!(
        "nc -ll -p 7 -e cat & nc host.containers.internal {out} < /dev/zero > /dev/null; echo over; sleep 1000"
    );
    let (publish, network) = (format!("{port}:7"), "rootless:allow_host_loopback=true");
    let vm = host.start("box", &["--network", network, "-p", &publish, BUSYBOX, "sh", "-c", &script]);
    vm.exec(&["sh", "-c", "while ! grep -q ':0007 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done"]).ok();
    let (mut outward, _) = listener.accept().unwrap();
    let mut inward = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut echo = |word: &[u8; 4]| {
        inward.write_all(word).unwrap();
        let mut back = [0; 4];
        inward.read_exact(&mut back).unwrap();
        assert_eq!(&back, word);
    };
    echo(b"one\n");
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    let said = clones(&host, "warm", &["--name", "copy"]);
    assert!(said[0]["restored"]["receipt"]["connections"].as_u64() >= Some(1), "{said:?}");
    echo(b"two\n");
    outward.read_exact(&mut [0; 1 << 20]).unwrap();
    let over = "while ps | grep -q '[n]c host'; do :; done; grep -c ' 01 ' /proc/net/tcp";
    assert_eq!(host.vm("copy").exec(&["timeout", "60", "sh", "-c", over]).text(), "0");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a copy connected anew by itself");
    remove(&host, &["box", "copy"]);
    host.assert_clean();
}

#[test]
fn a_fork_starts_children_from_one_moment_and_leaves_no_snapshot() {
    let host = Host::new();
    let vm = host.start("box", &[BUSYBOX, "sleep", "1000"]);
    vm.exec(&["sh", "-c", "echo before > /var/written"]).ok();
    host.fcvm(["fork", "-n", "4", "--name", "child", "--rm", "box"]).ok();
    let names = [1, 2, 3, 4].map(|number| format!("child-{number}"));
    for name in &names {
        let child = host.vm(name);
        assert_eq!(child.exec(&["cat", "/var/written"]).ok().text(), "before");
        child.exec(&["sh", "-c", "echo after > /var/written"]).ok();
    }
    assert_eq!(vm.exec(&["cat", "/var/written"]).ok().text(), "before");
    assert!(!host.fcvm(["snapshot", "ls"]).ok().text().contains("fork"));
    // A child's child, when all of its ancestors are gone.
    remove(&host, &["box", "child-2", "child-3", "child-4"]);
    host.fcvm(["fork", "--name", "grandchild", "--rm", "child-1"]).ok();
    remove(&host, &["child-1"]);
    assert_eq!(host.vm("grandchild").exec(&["cat", "/var/written"]).ok().text(), "after");
    assert_eq!(host.fcvm(["fork", "--exec", "cat /var/written", "grandchild"]).ok().text(), "after");
    remove(&host, &["grandchild"]);
    host.assert_clean();
}

#[test]
fn a_rewound_vm_keeps_its_ports_and_loses_its_old_streams() {
    let host = Host::new();
    let port = free_port();
    let publish = format!("{port}:80");
    let vm = host.start("box", &["-p", &publish, BUSYBOX, "httpd", "-f", "-p", "80", "-h", "/www"]);
    vm.exec(&["sh", "-c", "while ! grep -q ':0050 .* 0A ' /proc/net/tcp /proc/net/tcp6; do :; done"]).ok();
    host.fcvm(["snapshot", "create", "--tag", "then", "box"]).ok();
    vm.exec(&["rm", "/www/index.html"]).ok();
    assert!(get(port, "/index.html").contains("404"));
    let (exec, mut stdout) =
        Started::streaming(host.command(["exec", "box", "sh", "-c", "echo here; exec sleep 2000"]));
    stdout.read_exact(&mut [0; 5]).unwrap();
    host.fcvm(["rewind", "box", "then"]).ok();
    exec.finish().failed(125, "Error: ");
    assert!(get(port, "/index.html").ends_with("hello from a microVM\n"));
    assert_clock(&vm);
    assert_eq!(vm.exec(&["sh", "-c", "ps | grep -c '[s]leep 2000'"]).text(), "0");
    remove(&host, &["box"]);
    host.assert_clean();
}

fn json(host: &Host, verb: &[&str]) -> Value {
    let said = host.fcvm(["snapshot"].iter().chain(verb).chain(&["--json"])).ok();
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn a_snapshot_outlives_the_image_and_the_vm_that_it_came_of() {
    let host = Host::new();
    host.start("box", &[BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "--label", "a=b", "box"]).ok();
    remove(&host, &["box"]);
    host.fcvm(["rmi", "-f", BUSYBOX]).ok();
    assert_eq!(clone(&host, "warm", "copy").exec(&["cat", "/www/index.html"]).ok().text(), "hello from a microVM");
    let listed = json(&host, &["ls"]);
    let warm = listed.as_array().unwrap().iter().find(|row| row["kind"] == "user").unwrap();
    assert_eq!((&warm["source"], &warm["tags"][0], &warm["labels"]["a"]), (&"box".into(), &"warm".into(), &"b".into()));
    assert!(host.fcvm(["snapshot", "tree"]).ok().text().contains("VM copy"));
    let tree = json(&host, &["tree"]);
    let root = tree.as_array().unwrap().iter().find(|root| root["id"] == warm["id"]).unwrap();
    assert_eq!((&root["vms"][0], &root["tags"][0]), (&"copy".into(), &"warm".into()));
    let id = json!({ "id": warm["id"] });
    assert_eq!(json(&host, &["verify", "warm"]), json!({ "id": warm["id"], "changed": [] }));
    assert_eq!(json(&host, &["inspect", "warm"])[0]["id"], warm["id"]);
    // Its copies go on without it.
    assert_eq!(json(&host, &["rm", "warm"]), id);
    assert_eq!(host.vm("copy").exec(&["hostname"]).ok().text().len(), 12);
    host.fcvm(["snapshot", "run", "warm"]).failed(125, "warm");
    remove(&host, &["copy"]);
    host.assert_clean();
}

/// A file of the snapshot.
fn file_of_warm(host: &Host, name: &str) -> PathBuf {
    let id = host.fcvm(["snapshot", "inspect", "warm"]).ok();
    let id: Value = serde_json::from_slice(&id.stdout).unwrap();
    host.data().join("snapshots").join(id[0]["id"].as_str().unwrap()).join(name)
}

/// Changes a file of the snapshot, links and all.
fn damage(host: &Host, name: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = file_of_warm(host, name);
    let mut bytes = std::fs::read(&path).unwrap();
    change(&mut bytes);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
}

/// Puts half as much in the place of a large file of the snapshot.
fn halve(host: &Host, name: &str) {
    let path = file_of_warm(host, name);
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len(length / 2).unwrap();
}

#[test]
fn damaged_snapshots_are_refused_with_a_sentence() {
    let host = Host::new();
    host.start("box", &["--no-snapshot", "-m", "256m", BUSYBOX, "sleep", "1000"]);
    let create = || host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    let refused = |words: &str| {
        let finished = host.fcvm(["snapshot", "run", "-d", "--rm", "warm"]);
        let sentence = &finished.stderr;
        assert!(finished.code == 125 && !sentence.contains("panicked"), "{sentence}");
        assert!(words.split('|').any(|words| sentence.contains(words)), "{words:?} is not in: {sentence}");
        assert_eq!(host.fcvm(["ps", "-a", "-q"]).ok().text().lines().count(), 1);
    };
    create();
    halve(&host, "memory");
    refused("memory");
    create();
    halve(&host, "scratch.ext4");
    refused("scratch.ext4");
    create();
    // What the monitor reads, it refuses itself.
    damage(&host, "devices", |bytes| bytes[8..].fill(0xff));
    host.fcvm(["snapshot", "verify", "warm"]).failed(125, "devices");
    refused("monitor|Firecracker refused");
    create();
    damage(&host, "devices", |bytes| bytes.fill(0));
    refused("monitor|Firecracker refused");
    create();
    damage(&host, "manifest", |bytes| bytes.truncate(100));
    refused("manifest");
    // The source never noticed.
    assert_eq!(host.vm("box").exec(&["echo", "here"]).ok().text(), "here");
    remove(&host, &["box"]);
    host.fcvm(["snapshot", "rm", "-f", "warm"]).ok();
    host.assert_clean();
}

#[test]
fn the_first_run_of_an_image_makes_later_ones_start_from_its_snapshot() {
    let host = Host::new();
    let cached = || {
        let listed = host.fcvm(["snapshot", "ls", "--json"]).ok();
        let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
        listed.as_array().unwrap().iter().filter(|row| row["kind"] == "cache").count()
    };
    let restored = |name: &str| host.fcvm(["inspect", "--format", "{{.Vm.Snapshot}}", name]).ok().text();
    // One of them makes it, and the others do not wait for it.
    let codes = together(3, |number| host.fcvm(["run", "--rm", BUSYBOX, "sh", "-c", &format!("exit {number}")]).code);
    assert_eq!(codes, [0, 1, 2]);
    host.await_silence();
    assert_eq!(cached(), 1);
    let vm = host.start("later", &["-e", "A=later", "--hostname", "later", "-l", "x=y", BUSYBOX, "sleep", "1000"]);
    assert_ne!(restored("later"), "");
    assert_eq!(vm.exec(&["sh", "-c", "echo $A; hostname"]).ok().text(), "later\nlater");
    assert_clock(&vm);
    host.start("cold", &["--no-snapshot", BUSYBOX, "sleep", "1000"]);
    assert_eq!(restored("cold"), "");
    // Another shape of machine is another kind.
    host.fcvm(["run", "--rm", "-m", "300m", BUSYBOX, "true"]).ok();
    assert_eq!(cached(), 2);
    remove(&host, &["later", "cold"]);
    host.assert_clean();
}

#[test]
fn an_unusable_snapshot_of_the_cache_is_removed_and_the_run_goes_on() {
    let host = Host::new();
    host.fcvm(["run", "--rm", BUSYBOX, "true"]).ok();
    let snapshots = || {
        let dirs = std::fs::read_dir(host.data().join("snapshots")).unwrap();
        dirs.map(|dir| dir.unwrap().path()).collect::<Vec<_>>()
    };
    let first = snapshots();
    let devices = first[0].join("devices");
    let length = std::fs::metadata(&devices).unwrap().len();
    std::fs::write(&devices, vec![0; usize::try_from(length).unwrap()]).unwrap();
    assert_eq!(host.fcvm(["run", "--rm", BUSYBOX, "echo", "here"]).ok().text(), "here");
    host.await_silence();
    assert!(snapshots().is_empty());
    assert_eq!(host.fcvm(["run", "--rm", BUSYBOX, "echo", "again"]).ok().text(), "again");
    host.await_silence();
    assert_eq!(snapshots().len(), 1);
    host.assert_clean();
}

#[test]
fn a_container_that_ends_in_a_copy_ends_the_copy_with_its_code() {
    let host = Host::new();
    let wait = "while [ ! -e /tmp/end ]; do sleep 0.05; done; echo over; exit 7";
    let vm = host.start("box", &[BUSYBOX, "sh", "-c", wait]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    vm.exec(&["touch", "/tmp/end"]);
    assert_eq!(host.fcvm(["wait", "box"]).ok().text(), "7");
    let copy = host.command(["snapshot", "run", "--name", "copy", "--rm", "warm"]);
    let copy = Started::new(copy, Vec::new());
    let running = || host.fcvm(["exec", "copy", "true"]).code == 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !running() {
        assert!(std::time::Instant::now() < deadline, "the copy does not answer");
    }
    host.vm("copy").exec(&["touch", "/tmp/end"]);
    let copy = copy.finish();
    assert_eq!((copy.code, copy.text().as_str()), (7, "over"));
    remove(&host, &["box"]);
    host.assert_clean();
}
