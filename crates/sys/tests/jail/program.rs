//! Jailed shells.

use fcvm_sys::jail::{self, Bind, Entrance, Jail, Spawned};
use fcvm_sys::process::Ending;
use std::io::Read;
use std::path::Path;

/// Returns how this binary becomes the inside of a jail.
pub(crate) fn entrance() -> Entrance {
    Entrance { executable: "/proc/self/exe".into(), arguments: vec![crate::JAIL.into()] }
}

/// A jail that has the host's programs and runs a script.
pub(crate) fn shell(script: &str) -> Jail {
    let system = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache"];
    let binds = system.into_iter().filter(|path| Path::new(path).exists()).map(Bind::read_only).collect();
    Jail { arguments: vec!["-c".into(), script.into()], binds, ..Jail::new("/bin/sh") }
}

pub(crate) fn spawn(jail: Jail) -> Spawned {
    jail::spawn(jail, &entrance()).unwrap()
}

/// Runs a jail to its end; returns what it wrote, and how it ended.
pub(crate) fn run(jail: Jail) -> (String, Ending) {
    let (mut output, theirs) = std::io::pipe().unwrap();
    let mut spawned = spawn(Jail { stderr: theirs.try_clone().unwrap().into(), stdout: theirs.into(), ..jail });
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text, spawned.child.wait().unwrap())
}
