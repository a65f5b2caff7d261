//! What stories of volumes begin with: something on the host, shown to a VM that can be asked about it.

use crate::host::{Host, Run};
use std::fs;
use std::path::{Path, PathBuf};

/// A directory of the host that holds something to see.
pub fn tree(host: &Host, name: &str) -> PathBuf {
    let dir = host.path().join(name);
    fs::create_dir_all(dir.join("deep/er")).expect("make a tree");
    fs::write(dir.join("hello"), "from the host\n").expect("write a file");
    fs::write(dir.join("deep/er/file"), "deep\n").expect("write a file");
    dir
}

/// What `-v` is given for a directory.
pub fn volume(dir: &Path, rest: &str) -> String {
    format!("{}:{rest}", dir.display())
}

/// What a script in the container prints.
#[track_caller]
pub fn sh(vm: &Run<'_>, script: &str) -> String {
    vm.exec(&["sh", "-c", script]).ok().text()
}
