//! QEMU's `microvm` as the monitor.
//!
//! Everything that QEMU uses is handed to it as a descriptor: its memory, kernel and disks, and one end each of the
//! connections to its control, console and link. So it needs no directory, nothing can connect to it, and it may be a
//! user who could open none of these files.

mod arch;
mod boot;
mod command;
mod control;
mod files;
mod qmp;
mod saved;

pub(crate) use arch::EMULATED_CPU;
pub use arch::PROGRAM;
pub(crate) use boot::boot;
pub(crate) use control::Control;
use qmp::Qmp;
pub use qmp::QmpError;

use crate::Features;
use std::path::PathBuf;

/// The Debian package with the program.
pub const PACKAGE: &str = arch::PACKAGE;

/// What QEMU can do here. `microvm` has eight virtio-mmio transports on every host; link and entropy take two.
pub const FEATURES: Features =
    Features { software_emulation: true, snapshots: true, huge_pages: false, qcow2: true, disks: 6, cpus: 64 };

/// QEMU, installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qemu {
    /// The program, without symbolic links.
    pub program: PathBuf,
}

/// Looks for QEMU in these directories, in their order.
pub fn find(search_path: &[PathBuf]) -> Option<Qemu> {
    let mut candidates = search_path.iter().map(|directory| directory.join(PROGRAM));
    candidates.find_map(|path| crate::probe::executable(&path)).map(|program| Qemu { program })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_an_executable_file_of_the_name_is_found() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = [first.path().to_owned(), second.path().to_owned()];
        assert_eq!(find(&path), None);
        std::fs::write(first.path().join(PROGRAM), "").unwrap();
        let program = second.path().join(PROGRAM);
        std::fs::write(&program, "").unwrap();
        assert_eq!(find(&path), None);
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(find(&path), Some(Qemu { program: program.canonicalize().unwrap() }));
    }
}
