//! `run`: from flags to what is asked of the engine. Nothing below this file sees a flag.

use super::environment::environment;
use super::health::HealthArgs;
use super::mounts::Mounts;
use super::streams::{StreamArgs, Streams};
use super::words::split_words;
use crate::config::{Config, RunDefaults};
use crate::error::Failure;
use crate::stdio::{Seat, Shown, Signals, Size, Stdin};
use crate::terminal;
use clap::Args;
use fcvm_engine::run::Origin;
use fcvm_engine::{Attendance, Goal, Publish, RunRequest};
use fcvm_spec::container::parse_capability;
use fcvm_spec::unit::parse_bytes;
use fcvm_spec::{
    Accel, ContainerSpec, Engine, HostEntry, KernelChoice, MachineShape, MiB, PageSize, PortMapping, Removal,
    RestartPolicy, RootKind, SnapshotPolicy, Ulimit, VmId, VmName, VmSpec, VmmChoice,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of the VM
    #[arg(long)]
    name: Option<String>,
    /// Remove the VM when it has ended
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    streams: StreamArgs,
    /// Show only this: stdout, stderr; stdin is carried with --interactive
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<String>,
    /// Set a variable: KEY=VALUE, or KEY for its value here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Run as USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// Replace the image's entrypoint: a program, or a JSON list
    #[arg(long)]
    entrypoint: Option<String>,
    /// Host name of the guest
    #[arg(short = 'h', long)]
    hostname: Option<String>,
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
    /// When to ask the registry: always, missing, never, newer
    #[arg(long, default_value = "missing")]
    pull: String,
    /// Publish a port: [[IP:]HOSTPORT:]PORT[/tcp|udp]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish all ports that the image exposes
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// File system in memory: PATH[:OPTIONS]
    #[arg(long, value_name = "PATH")]
    tmpfs: Vec<String>,
    /// Directory or file of the host: SOURCE:TARGET[:OPTIONS]
    #[arg(short, long, alias = "map", value_name = "VOLUME")]
    volume: Vec<String>,
    /// The same, or a file system in memory: type=bind|tmpfs,source=…,target=…
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    /// Make the container's root read-only
    #[arg(long)]
    read_only: bool,
    /// Label of the VM
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// All capabilities and devices of the guest
    #[arg(long)]
    privileged: bool,
    /// Add a capability
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// Resource limit: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Run a small init as the container's first process
    #[arg(long)]
    init: bool,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u32>,
    /// Name server
    #[arg(long, value_name = "IP")]
    dns: Vec<std::net::IpAddr>,
    /// Line of /etc/hosts: NAME:IP
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// rootless[:allow_host_loopback=true] or none
    #[arg(long, alias = "net", value_name = "MODE")]
    network: Option<String>,
    /// When its container has ended: no, on-failure[:N], always or unless-stopped
    #[arg(long, default_value = "no", value_name = "POLICY")]
    restart: String,
    /// Write the id to a file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Kernel of the guest: an ELF or a bzImage
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Monitor: auto, qemu or firecracker
    #[arg(long)]
    vmm: Option<String>,
    /// What runs the container in the guest: crun, or podman (see `setup --with podman`)
    #[arg(long)]
    engine: Option<String>,
    /// The Firecracker to use [default: FCVM_FIRECRACKER_BIN, or the one in the PATH]
    #[arg(long, value_name = "FILE")]
    firecracker: Option<PathBuf>,
    /// What runs the guest's instructions: auto, kvm or tcg
    #[arg(long)]
    accel: Option<String>,
    /// Size at which a file of the log is full: max-size=10m
    #[arg(long, value_name = "max-size=SIZE")]
    log_opt: Vec<String>,
    /// What the guest may know of itself, at http://169.254.169.254/latest/meta-data/
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
    #[command(flatten)]
    health: HealthArgs,
    /// Neither use nor make a snapshot
    #[arg(long)]
    no_snapshot: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    sig_proxy: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Command line as one string; arguments after the image win
    #[arg(long, value_name = "STRING")]
    cmd: Option<String>,
    /// The image is a directory of this host, which is copied into a disk
    #[arg(long)]
    rootfs: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image
    image: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What `run` is to do, in terms that no flag is left of.
#[derive(Debug)]
pub(crate) struct RunPlan {
    pub(crate) request: RunRequest,
    pub(crate) place: Place,
    pub(crate) seat: Seat,
    pub(crate) cidfile: Option<PathBuf>,
    pub(crate) show: crate::ui::progress::Show,
}

/// Which process owns the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// This one.
    Foreground,
    /// One of its own in a new session: `-d`.
    Background,
    /// Likewise, and this one is at its terminal, which it can leave.
    Attended,
}

/// Makes an id and a name that nobody has asked for.
pub(crate) fn fresh() -> Result<(VmId, VmName), Failure> {
    let mut random = [0; 40];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Failure::new(format!("ask the kernel for random bytes: {error}")))?;
    let (id, seed) = random.split_at(32);
    let seed = u64::from_le_bytes(seed.try_into().expect("forty less thirty-two are eight"));
    let id = VmId::from_random(id.try_into().expect("the first thirty-two of forty"));
    Ok((id, VmName::from_seed(seed)))
}

impl RunArgs {
    /// Checks every flag and computes what is asked.
    pub(crate) fn plan(mut self, config: &Config) -> Result<RunPlan, Failure> {
        use crate::ui::progress::Show;
        let restart: RestartPolicy = self.restart.parse()?;
        if self.rm && restart != RestartPolicy::No {
            return Err(Failure::new("--rm and --restart exclude each other"));
        }
        self.fill_in(&config.run);
        let streams = self.streams.streams(&self.command()?)?;
        if streams.tty && self.engine()? == Engine::Podman {
            return Err(Failure::new("a container under --engine podman has no terminal; use exec -it"));
        }
        let seat = Seat {
            stdin: match (streams.interactive, streams.tty) {
                (true, true) => Stdin::Typed(streams.keys.clone()),
                (true, false) => Stdin::Read,
                (false, _) => Stdin::Ignored,
            },
            size: if streams.tty { Size::Followed } else { Size::Ignored },
            shown: shown(&self.attach)?,
            signals: if self.sig_proxy { Signals::Forwarded } else { Signals::Own },
        };
        let request = RunRequest {
            spec: self.spec(config, &streams)?,
            pull: self.pull.parse().map_err(Failure::new)?,
            publish: if self.publish_all { Publish::Exposed } else { Publish::Named },
            origin: Origin::Image,
            goal: Goal::Run,
            attendance: match streams.tty && !self.streams.detach {
                true => Attendance::Client(terminal::size()),
                false => Attendance::Owner,
            },
        };
        Ok(RunPlan {
            request,
            place: match (self.streams.detach, streams.tty) {
                (true, _) => Place::Background,
                (false, true) => Place::Attended,
                (false, false) => Place::Foreground,
            },
            seat,
            cidfile: self.cidfile,
            show: if self.quiet { Show::Nothing } else { Show::Progress },
        })
    }

    /// Takes the file's defaults for what was not typed; either way of asking for memory or processors is asking.
    fn fill_in(&mut self, defaults: &RunDefaults) {
        if self.memory.is_none() && self.mem.is_none() {
            self.memory.clone_from(&defaults.memory);
        }
        if self.cpus.is_none() && self.cpu.is_none() {
            self.cpus = defaults.cpus;
        }
    }

    fn spec(&self, config: &Config, streams: &Streams) -> Result<VmSpec, Failure> {
        let (id, name) = fresh()?;
        let mut ports = Vec::new();
        for port in &self.publish {
            ports.extend(PortMapping::parse(port)?);
        }
        Ok(VmSpec {
            id,
            name: self.name.as_ref().map_or(Ok(name), |name| name.parse())?,
            image: self.image()?,
            root: if self.rootfs { RootKind::Directory } else { RootKind::Image },
            container: ContainerSpec { terminal: streams.tty, ..self.container(config)? },
            machine: self.machine(&config.run)?,
            network: match &self.network {
                Some(mode) => mode.parse()?,
                None => config.run.network.unwrap_or_default(),
            },
            ports,
            removal: if self.rm { Removal::Automatic } else { Removal::Keep },
            stdin: if streams.interactive { fcvm_spec::Stdin::Carried } else { fcvm_spec::Stdin::Null },
            snapshot: if self.no_snapshot || crate::settings::snapshots_are_off() {
                SnapshotPolicy::Never
            } else {
                SnapshotPolicy::Allowed
            },
            metadata: super::metadata(&self.metadata)?,
            health: self.health.spec()?,
            restart: self.restart.parse()?,
        })
    }

    fn image(&self) -> Result<String, Failure> {
        if !self.rootfs {
            return Ok(self.image.clone());
        }
        let dir = std::path::absolute(&self.image).ok().filter(|dir| dir.is_dir());
        let dir = dir.and_then(|dir| dir.into_os_string().into_string().ok());
        dir.ok_or_else(|| Failure::new(format!("--rootfs wants a directory; {:?} is none", self.image)))
    }

    fn container(&self, config: &Config) -> Result<ContainerSpec, Failure> {
        let mounts = Mounts::of(&self.tmpfs, &self.volume, &self.mount)?;
        let all = |texts: &[String]| texts.iter().map(|text| parse_capability(text)).collect::<Result<Vec<_>, _>>();
        Ok(ContainerSpec {
            command: self.command()?,
            entrypoint: self.entrypoint.as_deref().map(entrypoint).transpose()?,
            env: environment(&self.env_file, &self.env)?,
            workdir: self.workdir.clone().map(absolute).transpose()?,
            user: self.user.clone(),
            hostname: self.hostname.clone(),
            tmpfs: mounts.tmpfs,
            volumes: mounts.volumes,
            read_only: self.read_only,
            privileged: self.privileged,
            cap_add: all(&self.cap_add)?,
            cap_drop: all(&self.cap_drop)?,
            ulimits: self.ulimit.iter().map(|text| Ulimit::parse(text)).collect::<Result<_, _>>()?,
            terminal: false,
            init: self.init,
            stop_signal: self.stop_signal.as_ref().map(|text| text.parse()).transpose()?,
            stop_timeout: self.stop_timeout,
            dns: self.dns.clone(),
            add_host: self.add_host.iter().map(|text| HostEntry::parse(text)).collect::<Result<_, _>>()?,
            memory: self.memory.as_ref().map(|text| text.parse::<MiB>()).transpose()?.map(MiB::bytes),
            cpu_milli: self.cpus.map(cpu_milli).transpose()?,
            labels: labels(&self.label),
            log_max_size: log_max_size(&self.log_opt)?.or(config.log_max_size()),
            engine: self.engine()?,
        })
    }

    fn engine(&self) -> Result<Engine, Failure> {
        self.engine.as_deref().map_or(Ok(Engine::default()), |text| choice("--engine", text, &ENGINES))
    }

    fn command(&self) -> Result<Vec<String>, Failure> {
        match &self.cmd {
            Some(text) if self.command.is_empty() => split_words(text),
            _ => Ok(self.command.clone()),
        }
    }

    fn machine(&self, defaults: &RunDefaults) -> Result<MachineShape, Failure> {
        let memory = match (&self.memory, self.mem) {
            (Some(text), _) => MachineShape::memory_for(text.parse()?),
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
        })
    }
}

const VMMS: [(&str, VmmChoice); 3] =
    [("auto", VmmChoice::Auto), ("qemu", VmmChoice::Qemu), ("firecracker", VmmChoice::Firecracker)];
const ENGINES: [(&str, Engine); 2] = [("crun", Engine::Crun), ("podman", Engine::Podman)];
const ACCELS: [(&str, Accel); 3] = [("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)];

fn choice<T: Copy>(flag: &str, text: &str, known: &[(&str, T)]) -> Result<T, Failure> {
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

fn absolute(dir: String) -> Result<String, Failure> {
    if dir.starts_with('/') {
        Ok(dir)
    } else {
        Err(Failure::new(format!("the working directory {dir:?} must be absolute")))
    }
}

/// `--entrypoint` is a program, a JSON list, or nothing.
fn entrypoint(text: &str) -> Result<Vec<String>, Failure> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text)
            .map_err(|error| Failure::new(format!("invalid --entrypoint {text:?}: {error}")));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect())
}

/// Which outputs `--attach` asks for; all if it does not say.
fn shown(streams: &[String]) -> Result<Shown, Failure> {
    const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];
    let wanted: Vec<String> = streams.iter().map(|stream| stream.to_ascii_lowercase()).collect();
    if let Some(unknown) = wanted.iter().find(|stream| !STREAMS.contains(&stream.as_str())) {
        return Err(Failure::new(format!("invalid --attach {unknown:?}: it is one of {}", STREAMS.join(", "))));
    }
    let has = |stream: &str| wanted.is_empty() || wanted.iter().any(|known| known == stream);
    Ok(Shown { stdout: has("stdout"), stderr: has("stderr") })
}

/// Of podman's options of a log, only the size makes sense here.
fn log_max_size(options: &[String]) -> Result<Option<u64>, Failure> {
    let size = |option: &String| match option.split_once('=') {
        Some(("max-size", size)) => Ok(parse_bytes(size)?),
        _ => Err(Failure::new(format!("unsupported --log-opt {option:?}: only max-size=SIZE is there"))),
    };
    Ok(options.iter().map(size).collect::<Result<Vec<u64>, Failure>>()?.last().copied())
}

fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| {
        text.split_once('=').map_or((text.clone(), String::new()), |(k, v)| (k.to_owned(), v.to_owned()))
    };
    texts.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entrypoint_is_a_program_a_list_or_nothing() {
        assert_eq!(entrypoint("/bin/x").unwrap(), ["/bin/x"]);
        assert_eq!(entrypoint(r#"["a","b c"]"#).unwrap(), ["a", "b c"]);
        assert_eq!(entrypoint("").unwrap(), Vec::<String>::new());
        assert!(entrypoint("[1]").is_err());
    }
}
