//! What a VM boots from: kernel, initramfs with the agent, guest system, scratch disk.
//!
//! ```text
//! <data>/artifacts/
//!   lock                     held by `setup`
//!   current.json             which of the following are in use
//!   kernels/KEY/             vmlinux, release, modules/NAME.ko, modules/boot.list, modules/later.list
//!   systems/KEY/system.erofs the guest system, read-only
//!   initramfs/KEY.cpio       the agent and the modules
//!   scratch/SIZE-v2.ext4     an empty scratch disk
//! ```
//!
//! All comes from the host's own Debian packages and is named by what it was made of, so that nothing is made twice and
//! a new agent makes a new initramfs only. Container images are not here but in the `image` room.

mod arch;
mod initramfs;
mod kernel;
mod module;
mod program;
mod requirement;
mod scratch;
mod setup;
mod system;
mod tool;

pub use program::Unfit;
pub use requirement::{Requirement, requirements};
pub use setup::{Progress, SetupOptions};
pub use system::System;

use crate::tool::Tools;
use fcvm_spec::RootfsSize;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The artifacts of one data directory.
#[derive(Clone, Debug)]
pub struct Artifacts {
    root: PathBuf,
}

/// What one VM boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The kernel: an ELF on x86_64, an `Image` on aarch64.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The guest system's disk.
    pub system: PathBuf,
}

/// Why artifacts cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing has been set up.
    #[error("there is no kernel and no guest system yet")]
    NotSetUp,
    /// The guest system with Podman was not asked for at set-up.
    #[error("there is no guest system with Podman yet")]
    NoPodman,
    /// A file could not be read or written.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of the data directory.
    #[error(transparent)]
    Store(#[from] fcvm_store::Error),
    /// A program is not installed.
    #[error("{program} is missing; install the package {package}")]
    NoTool {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program failed.
    #[error("{command} failed: {complaint}")]
    Tool {
        /// The command line.
        command: String,
        /// The last line that it wrote on standard error.
        complaint: String,
    },
    /// A file is no kernel that can be used.
    #[error("{} is no kernel that can be used: {reason}", path.display())]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file cannot be the guest's agent.
    #[error("{} cannot be the guest's agent", path.display())]
    NotAnAgent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Unfit,
    },
    /// The kernel's package lacks a module.
    #[error("the kernel {release} has no module {module}")]
    NoModule {
        /// The kernel.
        release: String,
        /// The module.
        module: String,
    },
    /// The guest system's disk could not be written.
    #[error("write the guest system's disk")]
    Disk(#[from] fcvm_erofs::Error),
}

impl Error {
    fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }
}

/// The contents of `current.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Current {
    /// Directory names below `kernels/` and `systems/`.
    kernel: String,
    system: String,
    /// The system with Podman, if it was asked for.
    #[serde(default)]
    podman: Option<String>,
}

impl Artifacts {
    /// Opens the directory and makes it if it is not there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        for dir in ["kernels", "systems", "initramfs", "scratch"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(Error::file("create directory", &path))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// Returns what VMs boot from, with this agent. A new agent is packed at once; nothing else is made here.
    pub fn current(&self, agent: &Path, system: System) -> Result<Set, Error> {
        let current = self.read_current()?;
        let kernel = self.kernel_dir(&current.kernel);
        let initramfs = initramfs::ensure(&self.root.join("initramfs"), agent, Some(&kernel))?;
        let set = Set { kernel: kernel.join(kernel::FILE), initramfs, system: self.system(&current, system)? };
        if set.kernel.is_file() { Ok(set) } else { Err(Error::NotSetUp) }
    }

    /// Returns what a VM boots from with a kernel of the user's own, which has built in what the agent needs.
    pub fn with_kernel(&self, kernel: &Path, agent: &Path, system: System) -> Result<Set, Error> {
        let system = self.system(&self.read_current()?, system)?;
        let kernel = kernel::import(&self.root.join("kernels"), kernel)?;
        let initramfs = initramfs::ensure(&self.root.join("initramfs"), agent, None)?;
        Ok(Set { kernel, initramfs, system })
    }

    /// The disk of a guest system.
    fn system(&self, current: &Current, system: System) -> Result<PathBuf, Error> {
        let (key, missing) = match system {
            System::Plain => (Some(&current.system), Error::NotSetUp),
            System::Podman => (current.podman.as_ref(), Error::NoPodman),
        };
        let disk = key.map(|key| self.root.join("systems").join(key).join(system::FILE));
        disk.filter(|disk| disk.is_file()).ok_or(missing)
    }

    /// Makes a VM's own scratch disk: a sparse copy of an empty one, or one of a size of its own.
    pub fn instantiate_scratch(
        &self,
        to: &Path,
        size: Option<RootfsSize>,
        search_path: &[PathBuf],
    ) -> Result<(), Error> {
        if let Some(size) = size.filter(|size| *size != RootfsSize::DEFAULT) {
            return scratch::make(&Tools::new(search_path), to, size);
        }
        let template = scratch::template(&self.root.join("scratch"));
        if !template.is_file() {
            return Err(Error::NotSetUp);
        }
        Ok(fcvm_store::sparse::copy(&template, to)?)
    }

    /// The release of the kernel in use.
    pub fn kernel_release(&self) -> Result<String, Error> {
        let path = self.kernel_dir(&self.read_current()?.kernel).join(kernel::RELEASE);
        Ok(fs::read_to_string(&path).map_err(Error::file("read", &path))?.trim().to_owned())
    }

    fn kernel_dir(&self, key: &str) -> PathBuf {
        self.root.join("kernels").join(key)
    }

    fn current_path(&self) -> PathBuf {
        self.root.join("current.json")
    }

    fn read_current(&self) -> Result<Current, Error> {
        let path = self.current_path();
        match fs::read(&path) {
            // A file that cannot be understood is of another version: setting up again mends it.
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| Error::NotSetUp),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotSetUp),
            Err(error) => Err(Error::file("read", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_was_not_asked_for_is_missed_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(root.path()).unwrap();
        // Written by a set-up that knew no other system.
        let current: Current = serde_json::from_str(r#"{"kernel":"k","system":"s"}"#).unwrap();
        let disk = root.path().join("systems/s").join(system::FILE);
        fs::create_dir(disk.parent().unwrap()).unwrap();
        fs::write(&disk, "").unwrap();
        assert_eq!(artifacts.system(&current, System::Plain).unwrap(), disk);
        assert!(matches!(artifacts.system(&current, System::Podman), Err(Error::NoPodman)));
    }
}
