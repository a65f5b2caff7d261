//! The `/dev` that root makes for a program: nodes of its own, since the host's may be root's alone.
//!
//! It is a mount that is nowhere yet, which costs no namespace and leaves nothing. Where root may not make device nodes, as
//! in many containers, the program gets the host's.

use super::Device;
use super::room::{NODES, device_path};
use rustix::fs::{AtFlags, FileType, Mode};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::process::{Gid, Uid};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where a program finds its descriptors.
pub(super) const DESCRIPTORS: &str = "/proc/self/fd";

/// Makes the nodes that any program may need, and these for its user, as far as this process may.
pub(super) fn make(devices: &[Device], user: u32) -> Option<OwnedFd> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    make_all(devices, user).ok()
}

fn make_all(devices: &[Device], user: u32) -> io::Result<OwnedFd> {
    let system = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("mode", "0755"), ("size", "64k")] {
        rustix::mount::fsconfig_set_string(&system, key, value)?;
    }
    rustix::mount::fsconfig_create(&system)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let dev = rustix::mount::fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    for node in NODES {
        make_one(dev.as_fd(), Path::new(node), Mode::from_raw_mode(0o666))?;
    }
    for device in devices {
        let name = make_one(dev.as_fd(), Path::new(device_path(*device)), Mode::RUSR | Mode::WUSR)?;
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::fs::chownat(&dev, name, Some(uid), Some(gid), AtFlags::empty())?;
    }
    rustix::fs::symlinkat(DESCRIPTORS, &dev, "fd")?;
    Ok(dev)
}

/// Makes a node like one of the host's, and returns its name.
fn make_one<'a>(dev: BorrowedFd<'_>, host: &'a Path, mode: Mode) -> io::Result<&'a Path> {
    let number = std::fs::metadata(host)?.rdev();
    let name = Path::new(host.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number)?;
    // Whatever this process's mask is.
    rustix::fs::chmodat(dev, name, mode, AtFlags::empty())?;
    Ok(name)
}
