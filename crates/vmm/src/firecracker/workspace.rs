//! The monitor's workspace, `/run/vm` in its jail, as its owner reaches it from outside.

use fcvm_sys::jail;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

/// Where the workspace is in the jail.
pub(super) const PLACE: &str = "/run/vm";
/// The socket of the API.
pub(super) const API: &str = "api.sock";
/// The name that the sockets of the vsock begin with.
pub(super) const LINK: &str = "link";

/// What the jail is asked for: a workspace of so many bytes with these names in it.
pub(super) fn ordered(size: u64, entries: Vec<jail::Entry>) -> jail::Workspace {
    jail::Workspace { at: PLACE.into(), size, entries }
}

/// A running monitor's workspace.
#[derive(Clone, Debug)]
pub(super) struct Workspace(PathBuf);

impl Workspace {
    /// That of the monitor with this number. The number is right as long as the monitor is our child.
    pub(super) fn of(monitor: u32) -> Self {
        Self(PathBuf::from(format!("/proc/{monitor}/root{PLACE}")))
    }

    /// That of a monitor that is none.
    #[cfg(test)]
    pub(super) fn at(directory: &std::path::Path) -> Self {
        Self(directory.to_owned())
    }

    /// Returns the path by which the owner reaches something in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Opens a file that the monitor wrote, and removes its name.
    pub(super) fn take(&self, name: &str) -> io::Result<File> {
        let file = File::open(self.path(name))?;
        fs::remove_file(self.path(name))?;
        Ok(file)
    }
}
