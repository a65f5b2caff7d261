//! What the engine is told once, by the only room that reads flags, environment and files.

use fcvm_store::Faults;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The guest's agent: a static executable.
    pub agent: PathBuf,
    /// This executable, which becomes the monitor's jail when it is started anew.
    pub executable: PathBuf,
    /// The arguments that make it the jail.
    pub jail: Vec<OsString>,
    /// The arguments that make it a page server.
    pub pager: Vec<OsString>,
    /// Directories in which programs are looked for.
    pub search_path: Vec<PathBuf>,
    /// The Firecracker that was named; otherwise it is looked for there too.
    pub firecracker: Option<PathBuf>,
    /// How much disk the snapshots that make later runs quick may take, in bytes.
    pub cache_room: u64,
    /// Registries: their configuration and credentials.
    pub registries: fcvm_image::RegistrySettings,
    /// Where a run is to fail; nowhere unless a test wants it.
    pub faults: Faults,
}

impl Settings {
    /// How this executable is started anew as the monitor's jail.
    pub fn entrance(&self) -> fcvm_vmm::Entrance {
        fcvm_vmm::Entrance { executable: self.executable.clone(), arguments: self.jail.clone() }
    }

    /// How it is started anew as a page server.
    pub(crate) fn pager(&self) -> fcvm_pager::Program {
        fcvm_pager::Program { executable: self.executable.clone(), arguments: self.pager.clone() }
    }
}
