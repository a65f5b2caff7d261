//! Device nodes that root makes for a program: the host's own may be root's alone.
//!
//! A node is made where nobody else sees it, and taken from there as a mount that is nowhere yet. Where root may not make
//! one, as in many containers, the program gets the host's.

use super::Device;
use super::room::{SITE, device_path};
use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};
use rustix::process::{Gid, Uid};
use rustix::thread::UnshareFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A node of the program's user.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) device: Device,
    /// The mount of it.
    pub(super) mount: OwnedFd,
}

/// Makes nodes of devices for a user, as far as this process may. It has one thread.
pub(super) fn make(devices: &[Device], user: u32) -> Vec<Node> {
    if devices.is_empty() || !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    make_apart(devices, user).unwrap_or_default()
}

fn make_apart(devices: &[Device], user: u32) -> io::Result<Vec<Node>> {
    // SAFETY: the flags hold no CLONE_FILES or CLONE_FS, so no descriptor and no directory is unshared under a thread's
    // feet; and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount("tmpfs", SITE, "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0700,size=64k")?;
    let nodes = devices.iter().map(|device| make_one(*device, user)).collect();
    rustix::mount::unmount(SITE, UnmountFlags::DETACH)?;
    nodes
}

fn make_one(device: Device, user: u32) -> io::Result<Node> {
    let host = Path::new(device_path(device));
    let number = std::fs::metadata(host)?.rdev();
    let place = Path::new(SITE).join(host.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    rustix::fs::mknodat(CWD, &place, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, number)?;
    rustix::fs::chown(&place, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(Node { device, mount: rustix::mount::open_tree(CWD, &place, flags)? })
}
