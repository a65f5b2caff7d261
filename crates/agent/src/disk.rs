//! The user's disks. What is on one is found out here: who has made it is known to nobody, and this guest is all that it can
//! harm.

use crate::boot;
use anyhow::{Context, Result, bail};
use fcvm_proto::plan::ExtraDisk;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_remount};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Where they are mounted, by their numbers.
pub(crate) const DIR: &str = "/run/fcvm/disks";

/// As far as the places go by which file systems are told apart.
const HEAD: usize = 68 << 10;

/// The disks of a guest.
#[derive(Debug, Default)]
pub(crate) struct Disks {
    /// The places of those that may be written.
    pub(crate) writable: Vec<PathBuf>,
    /// Why one could not be mounted: the container does not start then.
    pub(crate) failure: Option<String>,
}

/// Something that is told by its first bytes.
struct Known {
    name: &'static str,
    place: usize,
    magic: &'static [u8],
}

const fn known(name: &'static str, place: usize, magic: &'static [u8]) -> Known {
    Known { name, place, magic }
}

/// File systems, by the kernel's names.
const FILE_SYSTEMS: [Known; 5] = [
    known("ext4", 1024 + 56, b"\x53\xef"),
    known("erofs", 1024, b"\xe2\xe1\xf5\xe0"),
    known("xfs", 0, b"XFSB"),
    known("btrfs", (64 << 10) + 64, b"_BHRfS_M"),
    known("squashfs", 0, b"hsqs"),
];

/// What else people have on disks.
const OTHERS: [Known; 6] = [
    known("a disk in the format qcow2; give it as FILE:/path:qcow2", 0, b"QFI\xfb"),
    known("an encrypted volume (LUKS)", 0, b"LUKS\xba\xbe"),
    known("a partition table; give the disk of one file system", 512, b"EFI PART"),
    known("swap space", 4096 - 10, b"SWAPSPACE2"),
    known("the file system of a CD", (32 << 10) + 1, b"CD001"),
    known("a partition table or a file system of DOS; give the disk of one file system", 510, b"\x55\xaa"),
];

impl Disks {
    /// Mounts all of them, as long as the initramfs with its modules is the root.
    pub(crate) fn mount(disks: &[ExtraDisk]) -> Self {
        let mut all = Self::default();
        for (number, disk) in disks.iter().enumerate() {
            let place = Path::new(DIR).join(number.to_string());
            if let Err(error) = attach(disk, &place) {
                all.failure = Some(format!("the disk for {}: {error:#}", disk.target));
                break;
            }
            if !disk.read_only {
                all.writable.push(place);
            }
        }
        all
    }
}

/// Makes the file systems of the disks in the guest clean, whoever still has them open for reading.
pub(crate) fn settle() {
    for place in fs::read_dir(DIR).into_iter().flatten().flatten() {
        // One that is read-only is so already, and one that is still written to has its journal.
        let _ = mount_remount(place.path(), MountFlags::RDONLY, c"");
    }
}

fn attach(disk: &ExtraDisk, place: &Path) -> Result<()> {
    fs::create_dir_all(place).context("make a place for it")?;
    let mut head = Vec::with_capacity(HEAD);
    let device = File::open(&disk.device).with_context(|| format!("open {}", disk.device))?;
    device.take(HEAD as u64).read_to_end(&mut head).context("read it")?;
    let kind = kind_of(&head)?;
    boot::load_module(&format!("{kind}.ko"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let flags = if disk.read_only { flags | MountFlags::RDONLY } else { flags };
    let options = if kind == "ext4" && !disk.read_only { c"discard" } else { c"" };
    match mount(disk.device.as_str(), place, kind, flags, options) {
        Ok(()) => Ok(()),
        Err(Errno::NODEV) => bail!("its file system is {kind}, which the guest's kernel does not know"),
        Err(Errno::ROFS | Errno::ACCESS) if kind == "erofs" || kind == "squashfs" => {
            bail!("its file system is {kind}, which is never written; give it as :ro")
        }
        Err(Errno::ROFS) => bail!(
            "its file system was not unmounted after it was written last; mount it writable, or repair it on the host first"
        ),
        Err(error) => bail!("its file system {kind} cannot be mounted, it may be damaged: {error}"),
    }
}

fn kind_of(head: &[u8]) -> Result<&'static str> {
    let is = |known: &&Known| head.get(known.place..).is_some_and(|rest| rest.starts_with(known.magic));
    if let Some(found) = FILE_SYSTEMS.iter().find(is) {
        return Ok(found.name);
    }
    match OTHERS.iter().find(is) {
        Some(other) => bail!("there is {} on it", other.name),
        None => {
            bail!("there is no file system on it that is known here; make one on the host, for example with mkfs.ext4")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(known: &Known) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[known.place..known.place + known.magic.len()].copy_from_slice(known.magic);
        head
    }

    #[test]
    fn file_systems_are_known_and_what_is_none_is_named() {
        for known in &FILE_SYSTEMS {
            assert_eq!(kind_of(&head(known)).unwrap(), known.name);
        }
        for other in &OTHERS {
            let refused = kind_of(&head(other)).unwrap_err().to_string();
            assert!(refused.contains(other.name), "{refused}");
        }
        for nothing in [&[][..], &[0; 100], &[0xff; HEAD]] {
            assert!(kind_of(nothing).unwrap_err().to_string().contains("mkfs.ext4"));
        }
    }
}
