//! Flags about the machine: how much of it there is, and what runs it.

use crate::config::RunDefaults;
use crate::error::Failure;
use clap::Args;
use fcvm_spec::{Accel, CgroupSpec, Engine, KernelChoice, MachineShape, MiB, PageSize, VmmChoice};
use std::path::{Path, PathBuf};

/// What `run` and `prepare` say of the machine.
#[derive(Debug, Args)]
pub(super) struct MachineArgs {
    /// Processors that the container may use, for example 1.5
    #[arg(long)]
    cpus: Option<f64>,
    /// Processors of the machine
    #[arg(long, conflicts_with = "cpus")]
    cpu: Option<u8>,
    /// Memory that the container may use, for example 512m
    #[arg(short, long)]
    memory: Option<String>,
    /// Memory of the machine in MiB
    #[arg(long, conflicts_with = "memory", value_name = "MIB")]
    mem: Option<u32>,
    /// Make the machine's memory of huge pages of 2 MiB: on Firecracker
    #[arg(long)]
    hugepages: bool,
    /// Kernel of the guest: an ELF or a bzImage
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Monitor: auto, qemu or firecracker
    #[arg(long)]
    vmm: Option<String>,
    /// The Firecracker to use [default: FCVM_FIRECRACKER_BIN, or the one in the PATH]
    #[arg(long, value_name = "FILE")]
    firecracker: Option<PathBuf>,
    /// What runs the guest's instructions: auto, kvm or tcg
    #[arg(long)]
    accel: Option<String>,
    /// Cgroup of the host in which the VM's processes get one of their own [default: /fcvm if one is configured]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Write a value into a file of that cgroup: FILE=VALUE, for example memory.high=1073741824
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
}

impl MachineArgs {
    /// Takes the settings' defaults for what was not typed; either way of asking for memory or processors is asking.
    pub(super) fn fill_in(&mut self, defaults: &RunDefaults) {
        if self.memory.is_none() && self.mem.is_none() {
            self.memory.clone_from(&defaults.memory);
        }
        if self.cpus.is_none() && self.cpu.is_none() {
            self.cpus = defaults.cpus;
        }
    }

    /// Where the host counts and limits the VM's processes, if that was asked for.
    pub(super) fn cgroup(&self) -> Result<Option<CgroupSpec>, Failure> {
        Ok(CgroupSpec::parse(self.cgroup_parent.as_deref(), &self.cgroup_conf)?)
    }

    /// Bytes that the container may use, if that was asked for.
    pub(super) fn memory_limit(&self) -> Result<Option<u64>, Failure> {
        Ok(self.memory.as_ref().map(|text| text.parse::<MiB>()).transpose()?.map(MiB::bytes))
    }

    /// Thousandths of a processor that the container may use, if that was asked for.
    pub(super) fn cpu_limit(&self) -> Result<Option<u32>, Failure> {
        self.cpus.map(cpu_milli).transpose()
    }

    /// The machine of a container under this engine; defaults are those of the settings.
    pub(super) fn shape(&self, defaults: &RunDefaults, engine: Engine) -> Result<MachineShape, Failure> {
        let memory = match (&self.memory, self.mem) {
            (Some(text), _) => MachineShape::memory_for(text.parse()?, engine),
            (None, Some(mib)) => MiB(mib),
            (None, None) => MachineShape::DEFAULT_MEMORY,
        };
        let pages = if self.hugepages { PageSize::Huge } else { PageSize::Base };
        // Of whole pages.
        let memory = if self.hugepages { MiB(memory.0.next_multiple_of(PageSize::HUGE.0)) } else { memory };
        if memory < MachineShape::LEAST_MEMORY {
            return Err(Failure::new(format!(
                "a machine of {memory} is too small; it needs {}",
                MachineShape::LEAST_MEMORY
            )));
        }
        let cpus = match (self.cpus, self.cpu) {
            (Some(cpus), _) => cpu_milli(cpus)?.div_ceil(1000).try_into().unwrap_or(u8::MAX),
            (None, cpu) => cpu.unwrap_or(1),
        };
        if cpus == 0 || cpus > MachineShape::MOST_CPUS {
            return Err(Failure::new(format!(
                "a machine has from 1 to {} processors, not {cpus}",
                MachineShape::MOST_CPUS
            )));
        }
        Ok(MachineShape {
            cpus,
            memory,
            pages,
            kernel: self.kernel.clone().map_or(KernelChoice::Default, KernelChoice::File),
            vmm: match &self.vmm {
                Some(text) => choice("--vmm", text, &VMMS)?,
                None => defaults.vmm.unwrap_or_default(),
            },
            firecracker: self
                .firecracker
                .as_ref()
                .or(defaults.firecracker.as_ref())
                .map(|file| program(file))
                .transpose()?,
            accel: match &self.accel {
                Some(text) => choice("--accel", text, &ACCELS)?,
                None => defaults.accel.unwrap_or_default(),
            },
            disks: Vec::new(),
        })
    }
}

const VMMS: [(&str, VmmChoice); 3] =
    [("auto", VmmChoice::Auto), ("qemu", VmmChoice::Qemu), ("firecracker", VmmChoice::Firecracker)];
const ACCELS: [(&str, Accel); 3] = [("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)];

/// One of the words that a flag knows.
pub(super) fn choice<T: Copy>(flag: &str, text: &str, known: &[(&str, T)]) -> Result<T, Failure> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| Failure::new(format!("invalid {flag} {text:?}: it is one of {}", names.join(", "))))
}

/// A program by its absolute path: owners and clones have other working directories.
fn program(file: &Path) -> Result<PathBuf, Failure> {
    file.canonicalize().map_err(|error| Failure::new(format!("find {}: {error}", file.display())))
}

/// Reads a number of processors.
pub(crate) fn cpu_milli(cpus: f64) -> Result<u32, Failure> {
    let most = f64::from(MachineShape::MOST_CPUS);
    if cpus.is_finite() && cpus >= 0.01 && cpus <= most {
        return Ok((cpus * 1000.0).round() as u32);
    }
    Err(Failure::new(format!("invalid --cpus {cpus}: a number from 0.01 to {most} is expected")))
}
