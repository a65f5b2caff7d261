//! Firecracker as the monitor.
//!
//! It opens all of its files by path and listens on paths, so its jail has a workspace, `/run/vm`, in memory: there are
//! its sockets, and links to the descriptors that it inherited. The workspace is the same in every jail, hence a saved
//! machine names nothing of the host, and it ends with the monitor, hence nothing is ever stale.

mod api;
mod arch;
mod boot;
mod command;
mod control;
mod ending;
#[cfg(test)]
mod fake;
mod files;
mod metrics;
mod pager;
mod pages;
mod saved;
mod supervision;
mod version;
mod workspace;

pub use api::ApiError;
pub(crate) use boot::boot;
pub(crate) use control::Control;
pub use metrics::METRICS_FILE;
pub(crate) use supervision::Supervised;
pub use version::{Unsupported, Version};

use crate::Features;
use std::path::{Path, PathBuf};

/// The program's name.
pub const PROGRAM: &str = "firecracker";

/// What Firecracker can do. It has 17 virtio devices at most; link and entropy take two.
pub const FEATURES: Features =
    Features { software_emulation: false, snapshots: true, huge_pages: true, qcow2: false, disks: 15, cpus: 32 };

/// Firecracker, installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firecracker {
    /// The program, without symbolic links.
    pub program: PathBuf,
    /// What it says that it is; nothing if that is something else.
    pub version: Option<Version>,
}

impl Firecracker {
    /// Returns its version, or why it is not driven.
    pub fn supported(&self) -> Result<&Version, Unsupported> {
        match &self.version {
            Some(version) if version.is_at_least(Version::OLDEST) => Ok(version),
            Some(version) => Err(Unsupported::Old { found: version.clone() }),
            None => Err(Unsupported::Unknown { program: self.program.clone() }),
        }
    }
}

/// Takes the Firecracker that is named, or looks for one in these directories, in their order, and asks it for its version.
pub fn find(named: Option<&Path>, search_path: &[PathBuf]) -> Option<Firecracker> {
    let found = search_path.iter().map(|directory| directory.join(PROGRAM));
    let mut candidates = named.map(Path::to_owned).into_iter().chain(found.filter(|_| named.is_none()));
    let program = candidates.find_map(|path| crate::probe::executable(&path))?;
    Some(Firecracker { version: Version::of(&program), program })
}
