//! Makes the world that a plan describes: clock, disks, root, network. Each step once, in this order.

use crate::disk::Disks;
use crate::network::{self, Interface};
use crate::scratch::PLACE as SCRATCH;
use crate::{boot, cgroup, podman, scratch};
use anyhow::{Context, Result};
use fcvm_proto::plan::{Engine, Network, Plan};
use rustix::mount::{MountFlags, mount, mount_move};
use std::ffi::CStr;
use std::fs;
use std::path::Path;

/// Where the agent keeps what the container is made of.
pub(crate) const DIR: &str = "/run/fcvm";

/// What later requests need of the world.
pub(crate) struct World {
    /// The way out, if the plan has one.
    pub(crate) way_out: Option<Interface>,
    pub(crate) disks: Disks,
}

/// Applies a boot plan up to the point where the container can start.
pub(crate) fn build(plan: &Plan) -> Result<World> {
    fcvm_sys::guest::set_clock(plan.time_ns).context("set the clock")?;
    fcvm_sys::guest::add_entropy(&hex(&plan.entropy)).context("credit the host's random bytes")?;
    if matches!(plan.network, Network::Link { .. }) {
        boot::load_module("tun.ko")?;
    }
    boot::load_module("fuse.ko")?;
    // From then on the kernel's pool hears the host's random numbers all the time.
    boot::load_module("virtio_rng.ko")?;
    let disks = Disks::mount(&plan.disks.extra);
    enter_system(&plan.disks.system)?;
    for name in ["image", "scratch", "rootfs", "bundle", "given", "volumes"] {
        fs::create_dir_all(Path::new(DIR).join(name)).with_context(|| format!("make {DIR}/{name}"))?;
    }
    attach(&plan.disks.image, "/run/fcvm/image", "erofs", MountFlags::RDONLY, c"")?;
    attach(&plan.disks.scratch, SCRATCH, "ext4", MountFlags::NOATIME, c"discard")?;
    if let Err(error) = scratch::fill(&plan.disks.scratch) {
        eprintln!("fcvm-agent: {error:#}");
    }
    for name in ["upper", "work"] {
        fs::create_dir_all(Path::new(SCRATCH).join(name)).context("prepare the scratch disk")?;
    }
    if plan.container.engine == Engine::Podman {
        podman::make_room()?;
    }
    let layers = c"lowerdir=/run/fcvm/image,upperdir=/run/fcvm/scratch/upper,workdir=/run/fcvm/scratch/work";
    attach("overlay", "/run/fcvm/rootfs", "overlay", MountFlags::empty(), layers)?;
    let (container, hostname, machine_id) = (&plan.container, &plan.hostname, &plan.machine_id);
    Identity { hostname, machine_id, hosts: &container.hosts, resolv_conf: &container.resolv_conf }.assume()?;
    cgroup::prepare()?;
    Ok(World { way_out: network::set_up(&plan.network)?, disks })
}

/// Makes the system disk the root. The agent's own file stays reachable through `/proc/self/exe`.
fn enter_system(device: &str) -> Result<()> {
    const NEW: &str = "/newroot";
    let _ = fs::create_dir(NEW);
    attach(device, NEW, "erofs", MountFlags::RDONLY, c"")?;
    for place in ["/proc", "/sys", "/dev", "/run"] {
        mount_move(place, format!("{NEW}{place}")).with_context(|| format!("move {place}"))?;
    }
    rustix::process::chdir(NEW).context("enter the system disk")?;
    mount_move(NEW, "/").context("make the system disk the root")?;
    rustix::process::chroot(".").context("enter the root")?;
    rustix::process::chdir("/").context("enter the root")?;
    for (kind, place) in
        [("tmpfs", "/tmp"), ("devpts", "/dev/pts"), ("tmpfs", "/dev/shm"), ("cgroup2", "/sys/fs/cgroup")]
    {
        let _ = fs::create_dir(place);
        attach(kind, place, kind, MountFlags::NOSUID, c"")?;
    }
    Ok(())
}

fn attach(source: &str, place: &str, kind: &str, flags: MountFlags, options: &CStr) -> Result<()> {
    let options = (!options.is_empty()).then_some(options);
    mount(source, place, kind, flags, options).with_context(|| format!("mount {source} on {place}"))
}

/// The small files that say who this guest is; the container's configuration binds them over the image's.
pub(crate) struct Identity<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) machine_id: &'a str,
    pub(crate) hosts: &'a str,
    pub(crate) resolv_conf: &'a str,
}

impl Identity<'_> {
    /// Takes on the identity: writes the files in their places, where containers see them change, and sets the host name.
    pub(crate) fn assume(&self) -> Result<()> {
        let (hostname, machine_id) = (format!("{}\n", self.hostname), format!("{}\n", self.machine_id));
        for (name, text) in [
            ("hosts", self.hosts),
            ("resolv.conf", self.resolv_conf),
            ("hostname", &hostname),
            ("machine-id", &machine_id),
        ] {
            let path = Path::new(DIR).join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            // The system disk's own /etc leads here.
            let _ = fs::write(Path::new("/run").join(name), text);
        }
        rustix::system::sethostname(self.hostname.as_bytes()).context("set the host name")
    }
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
