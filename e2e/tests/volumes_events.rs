//! What the host changes in a volume raises inotify events in the guest.
//!
//! Nothing here waits for a time: what is watched is read until the line comes that is to come. That something does not
//! come is told by what was done after it and has come.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Run, Started, inotifyd};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;

/// Somebody in a container who watches.
struct Watch {
    program: Started,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    fn begin(host: &Host, vm: &str, paths: &[&str]) -> Self {
        let args = ["exec", vm, "/tools/inotifyd"];
        let (program, lines) = Started::streaming(host.command(args.iter().chain(paths)));
        let mut watch = Self { program, lines: BufReader::new(lines) };
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

    #[track_caller]
    fn next(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "whoever watches has ended");
        line.trim_end().to_owned()
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

    fn end(self) {
        self.program.signal(15);
        self.program.finish();
    }
}

/// A directory of the host that holds something to see.
fn tree(host: &Host, name: &str) -> PathBuf {
    let dir = host.path().join(name);
    fs::create_dir_all(dir.join("deep/er")).unwrap();
    fs::write(dir.join("hello"), "from the host\n").unwrap();
    fs::write(dir.join("deep/er/file"), "deep\n").unwrap();
    dir
}

fn volume(dir: &Path, rest: &str) -> String {
    format!("{}:{rest}", dir.display())
}

/// Where the program is that watches.
fn tools() -> String {
    volume(&inotifyd(), "/tools:ro,events=off")
}

fn sh(vm: &Run<'_>, script: &str) -> String {
    vm.exec(&["sh", "-c", script]).ok().text()
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
    watch.all(&["/src hello modify", "/src/hello  modify", "/src hello close-write"]);
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
    watch.end();
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
}
