//! `run`: from flags to what is asked of the engine. Nothing below this file sees a flag.

use super::disks::DiskArgs;
use super::environment::environment;
use super::health::HealthArgs;
use super::machine::{MachineArgs, choice};
use super::mounts::Mounts;
use super::registry::SourceArgs;
use super::streams::{StreamArgs, Streams};
use super::words::split_words;
use crate::config::Config;
use crate::error::Failure;
use crate::stdio::{Seat, Shown, Signals, Size, Stdin};
use crate::terminal;
use clap::Args;
use fcvm_engine::run::Origin;
use fcvm_engine::{Attendance, Goal, Publish, RunRequest};
use fcvm_spec::container::parse_capability;
use fcvm_spec::unit::parse_bytes;
use fcvm_spec::{
    ContainerSpec, Engine, HostEntry, MachineShape, PortMapping, Removal, RestartPolicy, RootKind, SnapshotPolicy,
    Ulimit, VmId, VmName, VmSpec,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

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
    /// Show only this: stdout, stderr; with stdin alone its id; stdin is carried with --interactive
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
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    source: SourceArgs,
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
    /// Directory or file of the host, or named volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, alias = "map", value_name = "VOLUME")]
    volume: Vec<String>,
    /// The same, or a file system in memory: type=bind|volume|tmpfs,source=…,target=…
    #[arg(long, value_name = "MOUNT")]
    mount: Vec<String>,
    #[command(flatten)]
    disks: DiskArgs,
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
    /// What runs the container in the guest: crun, or podman (see `setup --with podman`)
    #[arg(long)]
    engine: Option<String>,
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
    /// The whole command line.
    #[arg(skip)]
    pub(super) typed: Vec<String>,
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
    /// Where the image is fetched from, if it is.
    pub(crate) source: SourceArgs,
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
        self.machine.fill_in(&config.run);
        let streams = self.streams.streams(&self.command()?)?;
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
            source: self.source,
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
            container: ContainerSpec { terminal: streams.tty, typed: self.typed.clone(), ..self.container(config)? },
            machine: MachineShape { disks: self.disks.disks()?, ..self.machine.shape(&config.run, self.engine()?)? },
            rootfs_size: self.disks.rootfs_size()?,
            cgroup: self.machine.cgroup()?,
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
        let mounts = Mounts::of(&self.tmpfs, &self.volume, &self.mount, &self.disks.disks()?)?;
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
            typed: Vec::new(),
            init: self.init,
            stop_signal: self.stop_signal.as_ref().map(|text| text.parse()).transpose()?,
            stop_timeout: self.stop_timeout,
            dns: self.dns.clone(),
            add_host: self.add_host.iter().map(|text| HostEntry::parse(text)).collect::<Result<_, _>>()?,
            memory: self.machine.memory_limit()?,
            cpu_milli: self.machine.cpu_limit()?,
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
}

const ENGINES: [(&str, Engine); 2] = [("crun", Engine::Crun), ("podman", Engine::Podman)];
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

pub(super) fn labels(texts: &[String]) -> BTreeMap<String, String> {
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
