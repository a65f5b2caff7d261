//! What the program sees: a root of its own with the binds, some device nodes, and its own descriptors.
//!
//! There is no `/proc` but `/proc/self/fd`, because descriptors are handed over as paths. A whole one would show the
//! host's settings and hardware, and cannot be mounted where a container has hidden parts of its own.

use super::handover::{Failure, Order};
use super::nodes;
use super::{Access, Bind, Device, Entry, EntryKind, FIRST_DESCRIPTOR, Workspace};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Where the root is put together: a directory that every host has. The host's own is hidden only in here.
pub(super) const SITE: &str = "/tmp";

/// Nodes that any program may need.
pub(super) const NODES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Connections that may wait at a listener of a workspace.
const BACKLOG: i32 = 16;

/// The most files and directories of a workspace.
const NAMES: u32 = 1024;

/// Device nodes may not be devices elsewhere, and nothing gains privileges by being executed.
const PLAIN: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const NODE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;

/// Returns the path of a device on the host and inside.
pub(super) fn device_path(device: Device) -> &'static str {
    match device {
        Device::Kvm => "/dev/kvm",
        Device::Userfaultfd => "/dev/userfaultfd",
    }
}

/// Replaces the root of this process's mount namespace.
pub(super) fn furnish(order: &Order, dev: Option<OwnedFd>, descriptors: &[OwnedFd]) -> Result<(), Failure> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(Failure::at("make mounts private"))?;
    // Opened before the site hides what is below it.
    let has_dev = dev.is_some();
    let nodes = match dev {
        Some(dev) => vec![Mount::of_dev(dev)],
        None => hosts_nodes(order)?,
    };
    let mounts =
        order.binds.iter().map(Mount::of_bind).chain(nodes.into_iter().map(Ok)).collect::<Result<Vec<_>, _>>()?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", SITE, "tmpfs", flags, c"mode=0755,size=1m").map_err(Failure::at("mount a root"))?;
    for mount in &mounts {
        mount.attach().map_err(Failure::at(format!("show {}", mount.to.display())))?;
    }
    if let Some(workspace) = &order.workspace {
        attach_workspace(workspace, descriptors).map_err(Failure::at("make a workspace"))?;
    }
    attach_descriptors().map_err(Failure::at("show /proc/self/fd"))?;
    if !has_dev {
        let link = Path::new(SITE).join("dev/fd");
        std::os::unix::fs::symlink(nodes::DESCRIPTORS, link).map_err(Failure::at("show /dev/fd"))?;
    }
    drop(mounts);
    enter_site().map_err(Failure::at("enter the root"))?;
    set_attributes(Path::new("/"), libc::MOUNT_ATTR_RDONLY, 0).map_err(Failure::at("close the root"))
}

fn hosts_nodes(order: &Order) -> Result<Vec<Mount>, Failure> {
    let asked = order.devices.iter().map(|device| device_path(*device));
    NODES.into_iter().chain(asked).map(|path| Mount::open(path.as_ref(), path.as_ref(), NODE)).collect()
}

/// Something on its way to the inside.
struct Mount {
    from: From,
    to: PathBuf,
    attributes: u64,
}

/// What is shown inside.
enum From {
    /// Something of the host, which stays there.
    Host(OwnedFd),
    /// A directory whose mount is nowhere yet.
    Nowhere(OwnedFd),
}

impl Mount {
    fn of_dev(dev: OwnedFd) -> Self {
        Self { from: From::Nowhere(dev), to: PathBuf::from("dev"), attributes: NODE }
    }

    fn of_bind(bind: &Bind) -> Result<Self, Failure> {
        let attributes = match bind.access {
            Access::ReadOnly => PLAIN | libc::MOUNT_ATTR_RDONLY,
            Access::ReadWrite => PLAIN,
        };
        Self::open(bind.from.as_ref(), bind.to.as_ref(), attributes)
    }

    fn open(from: &Path, to: &Path, attributes: u64) -> Result<Self, Failure> {
        let place = inside(to).map_err(Failure::at(format!("show {}", to.display())))?;
        let from = rustix::fs::open(from, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at(format!("open {}", from.display())))?;
        Ok(Self { from: From::Host(from), to: place, attributes })
    }

    fn attach(&self) -> io::Result<()> {
        let at = Path::new(SITE).join(&self.to);
        match &self.from {
            From::Host(from) => {
                let is_directory = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(from)?.st_mode).is_dir();
                make_target(&at, is_directory)?;
                rustix::mount::mount_bind_recursive(format!("/proc/self/fd/{}", from.as_fd().as_raw_fd()), &at)?;
            }
            From::Nowhere(mount) => {
                make_target(&at, true)?;
                rustix::mount::move_mount(mount, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            }
        }
        set_attributes(&at, self.attributes, libc::AT_RECURSIVE.unsigned_abs())
    }
}

/// Returns a path inside relative to the root. One that is not absolute, or has `..`, is none.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut components = path.components();
    let rest = (components.next() == Some(Component::RootDir)).then_some(components.as_path());
    rest.filter(|rest| rest.components().all(|part| matches!(part, Component::Normal(_))))
        .map(Path::to_path_buf)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

fn make_target(at: &Path, is_directory: bool) -> io::Result<()> {
    if is_directory {
        return fs::create_dir_all(at);
    }
    at.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::File::create(at).map(drop)
}

/// Makes a directory in memory that belongs to the program's user, whom this process is already.
fn attach_workspace(workspace: &Workspace, descriptors: &[OwnedFd]) -> io::Result<()> {
    let at = Path::new(SITE).join(inside(&workspace.at)?);
    fs::create_dir_all(&at)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let data = CString::new(format!("mode=0700,size={},nr_inodes={NAMES}", workspace.size))?;
    rustix::mount::mount("tmpfs", &at, "tmpfs", flags, data.as_c_str())?;
    workspace.entries.iter().try_for_each(|entry| make_entry(&at, entry, descriptors))
}

fn make_entry(at: &Path, entry: &Entry, descriptors: &[OwnedFd]) -> io::Result<()> {
    let (place, socket) = (at.join(&entry.name), descriptors.get(entry.descriptor));
    match entry.kind {
        EntryKind::File => {
            std::os::unix::fs::symlink(format!("/proc/self/fd/{}", FIRST_DESCRIPTOR as usize + entry.descriptor), place)
        }
        EntryKind::Listener => {
            let socket = socket.ok_or(io::ErrorKind::InvalidInput)?;
            rustix::net::bind(socket, &rustix::net::SocketAddrUnix::new(&place)?)?;
            Ok(rustix::net::listen(socket, BACKLOG)?)
        }
    }
}

/// Shows this process's descriptors, and only these, where every program looks for them.
fn attach_descriptors() -> io::Result<()> {
    let at = Path::new(SITE).join("proc/self/fd");
    fs::create_dir_all(&at)?;
    rustix::mount::mount_bind(nodes::DESCRIPTORS, &at)?;
    set_attributes(&at, PLAIN | libc::MOUNT_ATTR_NOEXEC, 0)
}

/// Makes the site the root, and what was the root unreachable.
fn enter_site() -> io::Result<()> {
    rustix::process::chdir(SITE)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root lies upon the new one now.
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Adds attributes to a mount; unlike a remount this never takes any away, which a user namespace would not allow.
fn set_attributes(at: &Path, attributes: u64, flags: u32) -> io::Result<()> {
    let target = rustix::fs::openat(CWD, at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let wanted = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = flags | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: the descriptor is open, the path is a literal, and `wanted` lives through the call with its own size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const wanted,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_is_absolute_and_stays_inside() {
        assert_eq!(inside(Path::new("/run/vm")).unwrap(), Path::new("run/vm"));
        assert_eq!(inside(Path::new("//run/./vm/")).unwrap(), Path::new("run/vm"));
        for path in ["", "run", "../run", "/run/../..", "./x"] {
            assert!(inside(Path::new(path)).is_err(), "{path}");
        }
    }
}
