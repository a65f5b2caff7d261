//! Firecracker at its native speed on any `/dev/kvm`, also one that runs no stock kernel: with a guest of twenty
//! instructions.

mod guest;

pub use guest::{Guest, Then};

use fcvm_pager::{Files, Order, Overlay, Program};
use fcvm_spec::MiB;
use fcvm_sys::process::Child;
use fcvm_vmm::memory::{self, MemoryCopy};
use fcvm_vmm::{Accelerator, Backend, Choice, Entrance, Exit, Machine, MachineSpec, Origin, Saved, boot, firecracker};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// What runs such machines.
#[derive(Clone, Debug)]
pub struct Native {
    /// Firecracker.
    pub firecracker: firecracker::Firecracker,
    fcvm: PathBuf,
}

/// A page server of a saved machine; dropped it ends.
#[derive(Debug)]
pub struct PageServer {
    /// Its process.
    pub process: Child,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Native {
    /// Looks for what is needed; what is missing in words.
    pub fn find() -> Result<Self, String> {
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let named = variable("FCVM_FIRECRACKER_BIN").ok_or("FCVM_FIRECRACKER_BIN is not set")?;
        let firecracker = firecracker::find(Some(&named), &[]).ok_or("FCVM_FIRECRACKER_BIN names no program")?;
        let fcvm = variable("FCVM_BIN").ok_or("FCVM_BIN is not set")?;
        if !cfg!(target_arch = "x86_64") {
            return Err("its guest is one of x86_64".to_owned());
        }
        let kvm = File::options().read(true).write(true).open("/dev/kvm");
        kvm.map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
        Ok(Self { firecracker, fcvm })
    }

    /// Whether this host has so many huge pages to spare; what is missing in words.
    pub fn has_huge_pages(&self, needed: u64) -> Result<(), String> {
        let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
        let free = free.ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        if free < needed { Err(format!("{needed} huge pages are needed and {free} are free")) } else { Ok(()) }
    }

    /// How a jail is made.
    pub fn entrance(&self) -> Entrance {
        Entrance { executable: self.fcvm.clone(), arguments: vec!["__jail".into()] }
    }

    /// Describes a machine whose files are in a directory.
    pub fn spec(&self, guest: &Guest, directory: &Path) -> MachineSpec {
        let (kernel, initramfs) = (directory.join("kernel"), directory.join("initramfs"));
        std::fs::write(&kernel, guest.program()).expect("write a kernel");
        std::fs::write(&initramfs, b"none").expect("write an initramfs");
        MachineSpec {
            choice: Choice {
                backend: Backend::Firecracker(self.firecracker.clone()),
                accel: Accelerator::Kvm,
                reason: "a test wants it".to_owned(),
            },
            cpus: 1,
            memory: MiB(guest.memory),
            pages: guest.pages,
            origin: Origin::Boot { kernel, initramfs },
            disks: Vec::new(),
            cgroups: Vec::new(),
            run_dir: directory.to_owned(),
        }
    }

    /// Boots a machine whose memory is filled when this returns, and saves it.
    pub async fn saved(&self, guest: &Guest, directory: &Path) -> Saved {
        let machine = boot(&self.spec(guest, directory), &self.entrance()).await.expect("a machine boots");
        passes(&machine, 1).await;
        save(&machine, None, directory).await
    }

    /// Starts a machine from a saved one, mapped or served.
    pub async fn restore(
        &self,
        guest: &Guest,
        (saved, server): (&Saved, Option<&PageServer>),
        directory: &Path,
    ) -> Result<Machine, fcvm_vmm::Error> {
        let saved = Saved { server: server.map(|server| server.socket.clone()), ..saved.clone() };
        let spec = MachineSpec { origin: Origin::Saved(saved), ..self.spec(guest, directory) };
        boot(&spec, &self.entrance()).await
    }

    /// Serves the pages of a saved machine.
    pub fn serve(&self, saved: &Saved, working_set: Vec<(u64, u64)>, directory: &Path) -> PageServer {
        let socket = directory.join("pager");
        let pages = saved.pages.as_ref().map(|path| File::open(path).expect("the pages are there"));
        let parts = pages.as_ref().map(|pages| memory::parts(pages).expect("the pages can be read"));
        let overlay = |(start, length, place)| Overlay { start, length, place };
        let overlays = parts.into_iter().flatten().map(overlay).collect();
        let files = Files {
            memory: File::open(&saved.memory).expect("the memory is there"),
            pages,
            listener: UnixListener::bind(&socket).expect("make a socket"),
        };
        let program = Program { executable: self.fcvm.clone(), arguments: vec!["__pager".into()] };
        let order = Order { overlays, working_set };
        let spawned = fcvm_pager::start(&program, &order, files, &self.entrance()).expect("a server starts");
        PageServer { process: spawned.child, socket }
    }
}

/// Waits until a guest has passed over its memory so many times; panics if it found what is not its own.
pub async fn passes(machine: &Machine, count: usize) {
    loop {
        let seen = machine.console().tail();
        assert!(!seen.contains(guest::WRONG), "the guest found what it never wrote");
        if seen.matches(guest::PASSED).count() >= count {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// As [`passes`], for a machine that may end instead.
pub async fn passes_or_ends(machine: &mut Machine, count: usize) -> Option<Exit> {
    loop {
        let seen = machine.console().tail();
        assert!(!seen.contains(guest::WRONG), "the guest found what it never wrote");
        if seen.matches(guest::PASSED).count() >= count {
            return None;
        }
        tokio::select! {
            biased;
            exit = machine.wait() => return Some(exit),
            () = tokio::task::yield_now() => {}
        }
    }
}

/// Saves a machine into a directory, and lets it go on. One that was restored goes with the memory of what it came from.
pub async fn save(machine: &Machine, base: Option<&Saved>, directory: &Path) -> Saved {
    let file = |name: &str| directory.join(name);
    let copy = machine.copy_memory().expect("the memory is found");
    machine.pause().await.expect("a machine stops");
    let devices = machine.save_devices().await.expect("the devices are saved");
    let mut saved = Saved {
        memory: base.map_or_else(|| file("memory"), |base| base.memory.clone()),
        pages: None,
        devices: file("devices"),
        version: machine.version(),
        server: None,
    };
    match copy {
        MemoryCopy::Pages(copy) => {
            let pages = copy.take().expect("the pages are read");
            pages.write(&mut File::create(file("pages")).expect("make a file")).expect("write pages");
            saved.pages = Some(file("pages"));
        }
        MemoryCopy::Monitors { .. } => {
            let into = File::options().read(true).write(true).create_new(true).open(&saved.memory);
            let copied = machine.saved_memory().and_then(|copy| copy.ahead(&into?));
            copied.expect("the memory is copied");
        }
        MemoryCopy::Whole(_) => unreachable!("Firecracker's memory is its own"),
    }
    machine.resume().await.expect("a machine goes on");
    std::fs::write(&saved.devices, devices).expect("write the devices");
    saved
}
