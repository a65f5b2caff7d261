//! Programs in real jails: what they see, and that they end.
//!
//! This test binary is its own entrance: `entrance` below is run by it alone, on the main thread.

use super::*;
use crate::process::Ending;
use std::io::Read;
use std::path::Path;

#[test]
#[ignore = "no test: the inside of the jails that the tests make"]
fn entrance() {
    enter();
}

fn test_entrance() -> Entrance {
    let arguments = ["--exact", "jail::tests::entrance", "--ignored", "--test-threads=1"];
    Entrance { executable: "/proc/self/exe".into(), arguments: arguments.map(OsString::from).to_vec() }
}

/// A jail that can run the host's programs.
fn shell(script: &str) -> Jail {
    let system = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"];
    let binds = system.into_iter().filter(|path| Path::new(path).exists()).map(Bind::read_only).collect();
    Jail { arguments: vec!["-c".into(), script.into()], binds, ..Jail::new("/bin/sh") }
}

/// Runs a script; returns what it wrote to standard error, and how it ended.
fn run(jail: Jail) -> (String, Ending) {
    let (mut output, theirs) = std::io::pipe().unwrap();
    let mut spawned = spawn(Jail { stderr: theirs.into(), ..jail }, &test_entrance()).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text, spawned.child.wait().unwrap())
}

#[test]
fn x() {
    let (t, e) = run(shell("exec >&2; ls -la / /dev /proc /proc/self /etc /; ls -l /proc/self/fd; id; hostname; setpriv -d; echo $$ $PPID; env; ls /sys /proc/1; touch /x; exit 3"));
    println!("{t} {e:?} {:?}", probe(&test_entrance()));
}
