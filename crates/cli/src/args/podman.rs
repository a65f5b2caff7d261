//! Podman's verbs and their flags, but for `run`'s, which are in [`super::run`].

use super::{CommitArgs, CopyArgs, ExportArgs, FileChangesArgs, RunArgs, StatsArgs, StreamArgs, SystemVerb, TopArgs};
use crate::detach::DetachKeys;
use crate::error::Failure;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Podman's verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum PodmanVerb {
    /// Run a container in a new VM
    // As in podman, -h is the host's name.
    #[command(disable_help_flag = true)]
    Run(Box<RunArgs>),
    /// Make a VM that is started later
    #[command(disable_help_flag = true)]
    Create(Box<RunArgs>),
    /// Start VMs that were created or have ended: the same disk, name and ports
    Start(StartArgs),
    /// Let containers end and start again in machines of the same disk, name and ports
    Restart(RestartArgs),
    /// Let running VMs stand still
    Pause {
        #[command(flatten)]
        which: Which,
    },
    /// Let paused VMs go on
    Unpause {
        #[command(flatten)]
        which: Which,
    },
    /// Give a VM another name
    Rename {
        /// The VM
        vm: String,
        /// The name
        name: String,
    },
    /// Change what a container may use
    Update(UpdateArgs),
    /// Remove all VMs that do not run
    Prune(PruneVmsArgs),
    /// Verbs on all VMs
    #[command(subcommand)]
    Container(ContainerVerb),
    /// Show what happens to VMs
    Events(EventsArgs),
    /// Make a snapshot of a container once it is healthy, for later runs to start from
    #[command(disable_help_flag = true)]
    Prepare(Box<PrepareArgs>),
    /// Ask whether a container is well
    #[command(subcommand)]
    Healthcheck(HealthcheckVerb),
    /// Be at a running container: see what it writes, type what it reads
    Attach(AttachArgs),
    /// Run a command in a running container
    Exec(ExecArgs),
    /// Copy files between VMs and here
    Cp(CopyArgs),
    /// List what a container has changed of its image's files
    Diff(FileChangesArgs),
    /// Make an image of a container's files
    Commit(CommitArgs),
    /// Write a container's files as a tar archive
    Export(ExportArgs),
    /// List the processes of a container
    Top(TopArgs),
    /// Show what running VMs use
    Stats(StatsArgs),
    /// Show and free room on the disk
    #[command(subcommand)]
    System(SystemVerb),
    /// List VMs
    #[command(visible_alias = "list")]
    Ps(ListArgs),
    /// Show what a container wrote
    Logs(LogsArgs),
    /// Stop VMs: the stop signal, and SIGKILL after a time-out
    Stop(StopArgs),
    /// Send a signal to containers
    Kill(KillArgs),
    /// Remove VMs
    Rm(RmArgs),
    /// Wait until containers have ended, and print their exit codes
    Wait(WaitArgs),
    /// Show all about VMs or images as JSON
    Inspect(InspectArgs),
    /// List published ports
    Port(PortArgs),
    /// List images
    Images(ImagesArgs),
    /// Fetch an image
    Pull(PullArgs),
    /// Load images from an archive
    Load(LoadArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Print the version
    Version(FormatArgs),
    /// Print what this installation is and holds
    Info(FormatArgs),
}

/// `prepare`.
#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// Give the snapshot this tag; without one it belongs to the cache
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// Make it anew if it is there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `healthcheck`.
#[derive(Debug, Subcommand)]
pub(crate) enum HealthcheckVerb {
    /// Ask once: ends with 0 if it is well, with 1 if it is not
    Run {
        /// The VM
        name: String,
    },
}

/// `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Keys that leave it alone: characters and ctrl-CHARACTER, separated by commas
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<String>,
    /// Do not carry standard input
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub(crate) sig_proxy: bool,
    /// The VM
    pub(crate) name: String,
}

impl AttachArgs {
    /// What leaves the container alone.
    pub(crate) fn keys(&self) -> Result<DetachKeys, Failure> {
        Ok(self.detach_keys.as_deref().map(str::parse).transpose()?.unwrap_or_default())
    }
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) streams: StreamArgs,
    /// Set a variable: KEY=VALUE, or KEY for its value here
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Run as USER[:GROUP]
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// Give all capabilities
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Run in the guest system, not in the container
    #[arg(long)]
    pub(crate) vm: bool,
    /// The VM
    pub(crate) name: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// `ps` and `ls`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Ended ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// No header
    #[arg(long, alias = "no-heading")]
    pub(crate) noheading: bool,
    /// json, table, or a template such as '{{.ID}} {{.Names}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// name=, id=, status=, label=, ancestor=, health=, exited=, before=, since=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// The newest one, ended or not
    #[arg(short, long, conflicts_with = "last")]
    pub(crate) latest: bool,
    /// So many of the newest, ended or not
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub(crate) last: Option<usize>,
    /// Which comes first
    #[arg(long, value_name = "FIELD", default_value = "created", hide_default_value = true)]
    pub(crate) sort: Sort,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sort {
    Command,
    /// The newest first
    Created,
    Id,
    Image,
    Names,
    Runningfor,
    Status,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on as more is written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only from this time: RFC 3339, or a span before now such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Only so many lines of the end
    #[arg(long, value_name = "LINES", default_value = "all")]
    pub(crate) tail: String,
    /// With the time of each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// With the VM's name before each line
    #[arg(short = 'n', long = "names")]
    pub(crate) with_names: bool,
    /// The VMs
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// Which VMs are meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// All of them
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The newest one
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Those that match, as in ps
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Also the VM whose id a file holds
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// The VMs
    pub(crate) names: Vec<String>,
}

/// `container`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerVerb {
    /// Remove all VMs that do not run
    Prune(PruneVmsArgs),
}

/// `prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneVmsArgs {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only those that match, as in ps; until=TIME: created before
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Memory that the container may use, for example 512m
    #[arg(short, long, required_unless_present = "cpus")]
    pub(crate) memory: Option<String>,
    /// Processors that it may use, for example 1.5
    #[arg(long)]
    pub(crate) cpus: Option<f64>,
    /// The VM
    pub(crate) name: String,
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// container=, event=, image=, label=, type=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.Time}} {{.Name}} {{.Status}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Only from this time: RFC 3339, or a span before now such as 10m [default: now, or all with --no-stream]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only to this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Go on as more happens
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    stream: bool,
    /// Do not
    #[arg(long)]
    no_stream: bool,
    /// Whole ids; they are whole anyway
    #[arg(long)]
    no_trunc: bool,
}

impl EventsArgs {
    /// Whether what is still to come is wanted.
    pub(crate) fn follows(&self) -> bool {
        self.stream && !self.no_stream
    }
}

/// `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Seconds before SIGKILL [default: the VM's --stop-timeout, or 10]
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    /// All running VMs
    #[arg(long)]
    pub(crate) running: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Seconds before SIGKILL [default: the VM's --stop-timeout, or 10]
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    /// That one is not there is no error
    #[arg(short, long)]
    pub(crate) ignore: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Running ones too
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Seconds before SIGKILL
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    /// That one is not there is no error
    #[arg(short, long)]
    pub(crate) ignore: bool,
    /// Nothing: a VM's disk goes with it
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

/// `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Wait for this instead of the end
    #[arg(long, value_enum, default_value = "stopped", hide_default_value = true)]
    pub(crate) condition: WaitCondition,
    /// The VMs
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum WaitCondition {
    /// Its end
    #[value(alias = "exited")]
    Stopped,
    /// Its container runs
    Running,
    /// Its health check was good
    Healthy,
    /// Its health check was bad for too long
    Unhealthy,
}

/// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// json, or a template such as '{{.State.Status}}'
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// Only VMs or only images of this name
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "all")]
    pub(crate) kind: InspectKind,
    /// VMs or images
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// What `inspect` looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum InspectKind {
    All,
    Container,
    Image,
}

/// `port`.
#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// The ports of every running VM
    #[arg(short, long, conflicts_with = "name")]
    pub(crate) all: bool,
    /// The VM
    #[arg(required_unless_present = "all")]
    pub(crate) name: Option<String>,
    /// Only this port of the container: PORT[/tcp|udp]
    pub(crate) port: Option<String>,
}

/// `images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// All images; none is hidden here
    #[arg(short, long)]
    pub(crate) all: bool,
    /// With their digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// No header
    #[arg(short = 'n', long, alias = "no-heading")]
    pub(crate) noheading: bool,
    /// json, table, or a template
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// Only this repository, or this image
    pub(crate) image: Option<String>,
}

/// `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Print the id only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// USER:PASSWORD for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,
    /// Whether the registry must prove who it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) tls_verify: Option<bool>,
    /// OS/ARCHITECTURE[/VARIANT]
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// The images
    #[arg(required = true)]
    pub(crate) images: Vec<String>,
}

/// `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive; standard input if none is named
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// All images that no VM uses
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The VMs that use it, running ones too
    #[arg(short, long)]
    pub(crate) force: bool,
    /// That one is not there is no error
    #[arg(short, long)]
    pub(crate) ignore: bool,
    /// The images
    pub(crate) images: Vec<String>,
}

/// `version` and `info`.
#[derive(Debug, Args)]
pub(crate) struct FormatArgs {
    /// json, or a template
    #[arg(short, long)]
    pub(crate) format: Option<String>,
}
