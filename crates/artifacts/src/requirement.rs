//! What the host must have beside a monitor, for `fcvm doctor`.

use std::path::PathBuf;

/// A program that something needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The program.
    pub program: &'static str,
    /// The Debian package that has it.
    pub package: &'static str,
    /// What needs it.
    pub needed_for: &'static str,
    /// Where it is, if it is there.
    pub found: Option<PathBuf>,
}

/// Lists the programs that `fcvm` uses.
pub fn requirements(search_path: &[PathBuf]) -> Vec<Requirement> {
    let wanted = [
        ("apt-get", "apt", "set-up"),
        ("apt-cache", "apt", "set-up"),
        ("dpkg-deb", "dpkg", "set-up"),
        ("mke2fs", "e2fsprogs", "set-up"),
    ];
    let find = |program: &str| search_path.iter().map(|dir| dir.join(program)).find(|path| path.is_file());
    let requirement =
        |(program, package, needed_for)| Requirement { program, package, needed_for, found: find(program) };
    wanted.into_iter().map(requirement).collect()
}
