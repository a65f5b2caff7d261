//! Guests made for these tests.

use crate::dial;
use cpio::NewcBuilder;
use cpio::newc::trailer;
use fcvm_spec::{Accel, MiB, VmmChoice};
use fcvm_vmm::{Backend, Choice, Disk, Entrance, Exit, LINK_PORT, MachineSpec, Origin, Probe, choose};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What guests are made of.
#[derive(Debug)]
pub(crate) struct Guest {
    kernel: PathBuf,
    modules: Option<PathBuf>,
    busybox: Option<PathBuf>,
    choice: Choice,
}

impl Guest {
    /// Looks for what guests are made of; what is missing in words.
    pub(crate) fn find() -> Result<Self, String> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let path: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
        let kernel = variable("FCVM_TEST_KERNEL").ok_or("FCVM_TEST_KERNEL is not set")?;
        let host = Probe::of_host(&path, variable("FCVM_FIRECRACKER_BIN").as_deref());
        let choice = choose(VmmChoice::Auto, Accel::Auto, &host).map_err(|error| error.to_string())?;
        let busybox = path.iter().map(|directory| directory.join("busybox")).find(|file| file.exists());
        Ok(Self { kernel, modules: variable("FCVM_TEST_MODULES"), busybox, choice })
    }

    /// Tells whether guests can be given programs.
    pub(crate) fn has_userland(&self) -> Result<(), String> {
        self.modules.as_ref().ok_or("FCVM_TEST_MODULES is not set")?;
        self.busybox.as_ref().ok_or("there is no busybox")?;
        if self.dials() && !cfg!(target_arch = "x86_64") {
            return Err("the program that dials is one of x86_64".to_owned());
        }
        Ok(())
    }

    /// Whether guests dial their owner, anew after each save. Others have a port that is always there.
    pub(crate) fn dials(&self) -> bool {
        matches!(self.choice.backend, Backend::Firecracker(_))
    }

    /// How a guest ends that resets itself, as one does that panics: Firecracker tells this from nothing else.
    pub(crate) fn reset(&self) -> Exit {
        if self.dials() { Exit::PoweredOff } else { Exit::Reset }
    }

    /// What a guest does to power off. Firecracker has no such button: its guests reset themselves.
    pub(crate) fn power_off(&self) -> &'static str {
        if self.dials() { "\nreboot -f\nsleep 1000\n" } else { "\npoweroff -f\nsleep 1000\n" }
    }

    /// Describes a machine that panics because it has no root file system.
    pub(crate) fn panicking(&self, directory: &Path) -> MachineSpec {
        self.machine(directory, Vec::new())
    }

    /// Describes a machine that runs a script with busybox each time it is connected to its owner, by descriptor 3.
    pub(crate) fn linked(&self, directory: &Path, script: &str) -> MachineSpec {
        let connect = if self.dials() {
            "while :; do dial /bin/sh /serve; done\n".to_owned()
        } else {
            format!(
                "for p in /sys/class/virtio-ports/*; do [ \"$(cat $p/name)\" = {LINK_PORT} ] && port=/dev/${{p##*/}}; done\n\
                while :; do sh /serve 3<>$port; done\n"
            )
        };
        self.scripted(directory, Vec::new(), &format!("cat > /serve <<'END'\n{script}END\n{connect}"))
    }

    /// Describes a machine that runs a script with busybox.
    pub(crate) fn scripted(&self, directory: &Path, disks: Vec<Disk>, script: &str) -> MachineSpec {
        let (modules, busybox) = (self.modules.as_ref().unwrap(), self.busybox.as_ref().unwrap());
        let mut archive = Vec::new();
        for name in ["bin", "dev", "proc", "sys", "m"] {
            archive = add(archive, name, 0o40755, b"");
        }
        archive = add(archive, "bin/busybox", 0o100755, &std::fs::read(busybox).unwrap());
        let mut init = "#!/bin/busybox sh\n/bin/busybox --install -s /bin\nexport PATH=/bin\n".to_owned();
        init += "mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev\n";
        let list = |name: &str| std::fs::read_to_string(modules.join(name)).unwrap();
        let later = if self.dials() { list("later.list") } else { String::new() };
        archive = add(archive, "bin/dial", 0o100755, &dial::program());
        for module in list("boot.list").lines().chain(later.lines().filter(|name| name.contains("vsock"))) {
            archive = add(archive, &format!("m/{module}"), 0o100644, &std::fs::read(modules.join(module)).unwrap());
            init += &format!("insmod /m/{module}\n");
        }
        archive = add(archive, "init", 0o100755, (init + script).as_bytes());
        MachineSpec { disks, ..self.machine(directory, archive) }
    }

    fn machine(&self, directory: &Path, archive: Vec<u8>) -> MachineSpec {
        let initramfs = directory.join("initramfs");
        std::fs::write(&initramfs, trailer(archive).unwrap()).unwrap();
        MachineSpec {
            choice: self.choice.clone(),
            cpus: 1,
            memory: MiB(192),
            pages: fcvm_spec::PageSize::Base,
            origin: Origin::Boot { kernel: self.kernel.clone(), initramfs },
            disks: Vec::new(),
            cgroups: Vec::new(),
            run_dir: directory.to_owned(),
        }
    }
}

fn add(archive: Vec<u8>, name: &str, mode: u32, bytes: &[u8]) -> Vec<u8> {
    let mut writer = NewcBuilder::new(name).mode(mode).write(archive, bytes.len() as u32);
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Returns how this binary becomes the inside of a jail.
pub(crate) fn entrance() -> Entrance {
    Entrance { executable: "/proc/self/exe".into(), arguments: vec![crate::JAIL.into()] }
}

/// Runs one test's future on its own thread, as an owner does.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}
