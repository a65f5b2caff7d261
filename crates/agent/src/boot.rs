//! The first milliseconds: file systems of the kernel, modules, the link's port.

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, mount};
use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const MODULES: &str = "/modules";
/// The name of the link's port, as the monitor gives it.
const PORT_NAME: &str = "fcvm.link";
/// The most descriptors that the kernel lets a process have, unless told otherwise (`fs.nr_open`).
const DESCRIPTORS: u64 = 1 << 20;

/// Mounts what the kernel offers and loads what the link and the disks need.
pub(crate) fn early() -> Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")] {
        let _ = fs::create_dir(place);
        let flags = MountFlags::NOSUID | if kind == "devtmpfs" { MountFlags::empty() } else { MountFlags::NODEV };
        match mount(kind, place, kind, flags, None::<&CStr>) {
            // The kernel mounts /dev by itself where it was built so.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("mount {place}")),
        }
    }
    allow_descriptors();
    load_list("boot.list", |_| true)
}

/// Allows this program as many descriptors as can be: every connection to a published port takes one.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limits = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    if let Err(error) = setrlimit(Resource::Nofile, limits) {
        eprintln!("fcvm-agent: few connections are possible: {error}");
    }
}

/// Loads those modules of a list that are wanted, in its order.
fn load_list(list: &str, wanted: fn(&str) -> bool) -> Result<()> {
    let path = Path::new(MODULES).join(list);
    let names = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    names.lines().filter(|name| !name.is_empty() && wanted(name)).try_for_each(load_module)
}

/// Loads one module, all that it needs being there. That it is in the kernel already is no error; nor is that there is
/// no file of it, since a kernel of the user's own has built in what is needed.
pub(crate) fn load_module(name: &str) -> Result<()> {
    let path = Path::new(MODULES).join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
    };
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("load module {name}")),
    }
}

/// Finds the link's port among the virtio ports. There is none where the monitor has a vsock.
pub(crate) fn link_port() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten();
    let is_link = |dir: &PathBuf| fs::read_to_string(dir.join("name")).is_ok_and(|name| name.trim() == PORT_NAME);
    let port = ports.map(|port| port.path()).find(is_link)?;
    Some(Path::new("/dev").join(port.file_name()?))
}

/// Loads what a vsock needs; most guests have none.
pub(crate) fn load_vsock() -> Result<()> {
    load_list("later.list", |name| name.contains("vsock"))
}
