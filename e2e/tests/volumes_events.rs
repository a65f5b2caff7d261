//! What the host changes in a volume raises inotify events in the guest.
//!
//! Nothing here waits for a time: what is watched is read until the line comes that is to come. That something does not
//! come is told by what was done after it and has come.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Started, inotifyd, sh, tree, volume};
use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Somebody in a container who watches.
struct Watch {
    program: Option<Started>,
    /// What was heard, read as it comes: a guest keeps no more of it than its kernel has room for.
    lines: Receiver<String>,
}

impl Watch {
    fn begin(host: &Host, vm: &str, paths: &[&str]) -> Self {
        let args = ["exec", vm, "/tools/inotifyd"];
        let (program, output) = Started::streaming(host.command(args.iter().chain(paths)));
        let (heard, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map_while(|line| heard.send(line).ok()).for_each(drop);
        });
        let mut watch = Self { program: Some(program), lines };
        watch.until("ready");
        watch
    }

    /// Reads until this line comes, and returns those before it.
    #[track_caller]
    fn until(&mut self, expected: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let line = self.next();
            if line == expected {
                return before;
            }
            before.push(line);
        }
    }

    /// Reads until these lines have come, in this order.
    #[track_caller]
    fn all(&mut self, expected: &[&str]) {
        expected.iter().for_each(|expected| drop(self.until(expected)));
    }

    /// Reads until these lines have come, in whatever order.
    #[track_caller]
    fn each(&mut self, expected: &[&str]) {
        let mut awaited = expected.to_vec();
        while !awaited.is_empty() {
            let line = self.next();
            awaited.retain(|expected| *expected != line);
        }
    }

    #[track_caller]
    fn next(&mut self) -> String {
        let Ok(line) = self.lines.recv() else {
            panic!("whoever watches goes on: {:?}", self.program.take().map(Started::finish));
        };
        assert!(!line.ends_with(" overflow"), "the guest's kernel had more than whoever watches could read");
        line
    }

    /// Reads until a move is told, and asserts that both of its lines are of one move.
    #[track_caller]
    fn moved(&mut self, from: &str, to: &str) {
        let number = loop {
            if let Some(number) = self.next().strip_prefix(&format!("{from} moved-from ")) {
                break number.to_owned();
            }
        };
        assert_eq!(self.next(), format!("{to} moved-to {number}"));
    }

    fn end(mut self) {
        let program = self.program.take().expect("it has not ended");
        program.signal(15);
        program.finish();
    }
}

/// Where the program is that watches.
fn tools() -> String {
    volume(&inotifyd(), "/tools:ro,events=off")
}

#[test]
fn events_are_raised_for_all_that_the_host_does() {
    let host = Host::new();
    let src = tree(&host, "src");
    let vm = host.start("box", &["-v", &volume(&src, "/src"), "-v", &tools(), BUSYBOX, "sleep", "1000"]);
    let mut watch = Watch::begin(&host, "box", &["/src", "/src/deep/er", "/src/hello"]);

    // Written, and read by whoever was told.
    assert_eq!(sh(&vm, "cat /src/hello"), "from the host");
    fs::write(src.join("hello"), "by the host!!\n").unwrap();
    watch.each(&["/src hello modify", "/src/hello  modify", "/src hello close-write", "/src/hello  close-write"]);
    assert_eq!(sh(&vm, "cat /src/hello"), "by the host!!");
    fs::set_permissions(src.join("hello"), fs::Permissions::from_mode(0o600)).unwrap();
    watch.until("/src hello attrib");

    // Made.
    fs::write(src.join("new"), "new\n").unwrap();
    watch.all(&["/src new create", "/src new modify", "/src new close-write"]);
    assert_eq!(sh(&vm, "cat /src/new"), "new");
    fs::create_dir(src.join("dir")).unwrap();
    watch.until("/src dir create dir");
    symlink("hello", src.join("link")).unwrap();
    watch.until("/src link create");
    assert_eq!(sh(&vm, "readlink /src/link"), "hello");

    // Moved, within a directory, to another, and over another file, as editors do.
    fs::rename(src.join("new"), src.join("newer")).unwrap();
    watch.moved("/src new", "/src newer");
    fs::rename(src.join("newer"), src.join("deep/er/moved")).unwrap();
    watch.moved("/src newer", "/src/deep/er moved");
    assert_eq!(sh(&vm, "cat /src/deep/er/moved"), "new");
    fs::write(src.join(".tmp"), "replaced\n").unwrap();
    fs::rename(src.join(".tmp"), src.join("hello")).unwrap();
    watch.moved("/src .tmp", "/src hello");
    watch.until("/src/hello  delete-self");
    assert_eq!(sh(&vm, "cat /src/hello; ls -a /src"), "replaced\n.\n..\ndeep\ndir\nhello\nlink");

    // Deleted.
    fs::remove_file(src.join("deep/er/moved")).unwrap();
    watch.until("/src/deep/er moved delete");
    fs::remove_dir(src.join("dir")).unwrap();
    watch.until("/src dir delete dir");
    assert_eq!(sh(&vm, "ls /src /src/deep/er"), "/src:\ndeep\nhello\nlink\n\n/src/deep/er:\nfile");

    // Another file server takes the place of one that died: who watches the root goes on, and who looks anew.
    kill_process(host.file_server("box"), Signal::KILL).unwrap();
    // It takes one volume after the other.
    sh(&vm, "until test -e /tools/inotifyd; do :; done; until echo again > /src/again; do :; done 2> /dev/null");
    watch.until("/src again close-write");
    fs::write(src.join("second"), "").unwrap();
    watch.until("/src second create");
    fs::remove_file(src.join("again")).unwrap();
    watch.until("/src again delete");
    // To open what the guest believes to know makes it look again.
    assert_eq!(sh(&vm, "cat /src/deep/er/file"), "deep");
    let mut deep = Watch::begin(&host, "box", &["/src/deep/er"]);
    fs::remove_file(src.join("deep/er/file")).unwrap();
    deep.until("/src/deep/er file delete");
    [watch, deep].into_iter().for_each(Watch::end);
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn what_a_container_does_itself_is_heard_once() {
    let host = Host::new();
    let src = tree(&host, "src");
    let vm = host.start("box", &["-v", &volume(&src, "/src"), "-v", &tools(), BUSYBOX, "sleep", "1000"]);
    let mut watch = Watch::begin(&host, "box", &["/src"]);
    let work = "cd /src; echo a > own; echo b >> own; busybox chmod 600 own; busybox mv own mine; mkdir d; rm mine; busybox rmdir d";
    sh(&vm, work);
    fs::write(src.join("end"), "").unwrap();
    let mut heard = watch.until("/src end create");
    heard.retain(|line| !line.contains(" open"));
    // Of a move there is a number.
    heard.iter_mut().filter(|line| line.contains("moved")).for_each(|line| {
        line.truncate(line.rfind(' ').unwrap());
    });
    let expected = [
        "/src own create",
        "/src own modify",
        "/src own close-write",
        "/src own modify",
        "/src own close-write",
        "/src own attrib",
        "/src own moved-from",
        "/src mine moved-to",
        "/src d create dir",
        "/src mine delete",
        "/src d delete dir",
    ];
    assert_eq!(heard, expected);
    watch.end();
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn directories_that_come_later_volumes_to_be_read_only_and_files_have_events_and_who_wants_none_has_none() {
    let host = Host::new();
    let (fixed, quiet, raw) = (tree(&host, "fixed"), tree(&host, "quiet"), tree(&host, "raw"));
    let file = format!("type=bind,source={},target=/etc/one,ro", raw.join("hello").display());
    let (ro, off, none) =
        (volume(&fixed, "/fixed:ro"), volume(&quiet, "/quiet:events=off"), volume(&raw, "/raw:cache=none"));
    let args = ["-v", &ro, "-v", &off, "-v", &none, "--mount", &file, "-v", &tools(), BUSYBOX, "sleep", "1000"];
    let vm = host.start("box", &args);
    let mut watch = Watch::begin(&host, "box", &["/fixed", "/quiet", "/raw", "/etc/one"]);

    // What may only be read has events all the same, and stays so.
    fs::create_dir(fixed.join("later")).unwrap();
    watch.until("/fixed later create dir");
    let mut later = Watch::begin(&host, "box", &["/fixed/later"]);
    fs::write(fixed.join("later/file"), "x").unwrap();
    later.all(&["/fixed/later file create", "/fixed/later file close-write"]);
    fs::rename(fixed.join("later/file"), fixed.join("later/other")).unwrap();
    later.moved("/fixed/later file", "/fixed/later other");
    fs::remove_file(fixed.join("later/other")).unwrap();
    later.until("/fixed/later other delete");
    later.end();
    vm.exec(&["touch", "/fixed/x"]).failed(1, "Read-only file system");
    host.fcvm(["exec", "--vm", "box", "touch", "/run/fcvm/volumes/0/x"]).failed(1, "Read-only file system");

    // Where nothing is remembered, and a file that is a volume of its own.
    fs::write(raw.join("new"), "new\n").unwrap();
    watch.all(&["/raw new create", "/raw new close-write"]);
    fs::write(raw.join("hello"), "hello\n").unwrap();
    watch.until("/etc/one  close-write");

    // Where none are wanted.
    fs::write(quiet.join("hello"), "unheard\n").unwrap();
    fs::write(fixed.join("end"), "").unwrap();
    let heard = watch.until("/fixed end create");
    assert!(!heard.iter().any(|line| line.starts_with("/quiet")), "{heard:?}");
    watch.end();
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}

#[test]
fn a_clone_and_another_vm_hear_what_the_host_and_each_other_do() {
    let host = Host::new();
    let args = ["-v", "data:/data", "-v", &tools(), BUSYBOX, "sleep", "1000"];
    let source = host.start("source", &args);
    sh(&source, "mkdir -p /data/deep; echo 1 > /data/deep/file");
    let data = host.data().join("volumes/data/_data");
    let mut before = Watch::begin(&host, "source", &["/data/deep", "/data/deep/file"]);
    host.fcvm(["snapshot", "create", "source", "--tag", "s"]).ok();
    host.fcvm(["snapshot", "run", "s", "-d", "--name", "clone"]).ok();
    let clone = host.vm("clone");
    let mut after = Watch::begin(&host, "clone", &["/data/deep", "/data/deep/file"]);

    // The host, in both, and whoever watched before goes on.
    fs::write(data.join("deep/file"), "2\n").unwrap();
    for watch in [&mut before, &mut after] {
        watch.each(&["/data/deep/file  modify", "/data/deep file close-write"]);
    }
    // Each in the other.
    sh(&source, "echo 3 > /data/deep/new");
    after.all(&["/data/deep new create", "/data/deep new close-write"]);
    assert_eq!(sh(&clone, "cat /data/deep/new"), "3");
    sh(&clone, "busybox mv /data/deep/new /data/deep/file");
    before.moved("/data/deep new", "/data/deep file");
    before.until("/data/deep/file  delete-self");
    assert_eq!(sh(&source, "cat /data/deep/file"), "3");

    // One that had no part in it.
    let other = host.start("other", &["-v", "data:/mnt:ro", "-v", &tools(), BUSYBOX, "sleep", "1000"]);
    let mut there = Watch::begin(&host, "other", &["/mnt", "/mnt/deep"]);
    sh(&clone, "rm -r /data/deep");
    there.all(&["/mnt/deep file delete", "/mnt deep delete dir"]);
    assert_eq!(sh(&other, "ls /mnt"), "");
    [before, after, there].into_iter().for_each(Watch::end);
    host.fcvm(["rm", "-f", "-t", "0", "source", "clone", "other"]).ok();
    host.fcvm(["snapshot", "rm", "s"]).ok();
    host.fcvm(["volume", "rm", "data"]).ok();
    host.assert_clean();
}

#[test]
fn ten_thousand_changes_at_once_hurt_nobody_not_even_a_snapshot_in_their_midst() {
    let host = Host::new();
    let src = tree(&host, "src");
    let vm = host.start("box", &["-v", &volume(&src, "/src"), "-v", &tools(), BUSYBOX, "sleep", "1000"]);
    let mut watch = Watch::begin(&host, "box", &["/src"]);
    let many = || (0..10_000).map(|number| src.join(format!("file{number}")));
    many().for_each(|path| fs::write(path, "x").unwrap());
    watch.until("/src file0 create");
    host.fcvm(["snapshot", "create", "box", "--tag", "s"]).ok();
    many().for_each(|path| fs::remove_file(path).unwrap());
    host.fcvm(["snapshot", "run", "s", "-d", "--name", "clone"]).ok();
    let clone = host.vm("clone");
    for vm in [&vm, &clone] {
        // What was read before may be believed for a second.
        assert_eq!(
            sh(vm, "until [ $(ls /src | wc -l) -eq 2 ]; do :; done; ls /src; cat /src/hello"),
            "deep\nhello\nfrom the host"
        );
    }
    let mut other = Watch::begin(&host, "clone", &["/src"]);
    fs::write(src.join("end"), "").unwrap();
    watch.until("/src end create");
    other.until("/src end create");
    [watch, other].into_iter().for_each(Watch::end);
    host.fcvm(["rm", "-f", "-t", "0", "box", "clone"]).ok();
    host.fcvm(["snapshot", "rm", "s"]).ok();
    host.assert_clean();
}
