//! What was typed. Podman's grammar; a flag that is not there is refused by its name.

mod environment;
mod run;
mod snapshot;
mod unsupported;
mod words;

pub(crate) use environment::environment;
pub(crate) use run::{Place, RunArgs, RunPlan, fresh};
pub(crate) use snapshot::{
    ChildArgs, CloneArgs, CreateArgs, ForkArgs, ListSnapshotsArgs, RemoveSnapshotsArgs, SnapshotVerb,
};

use crate::error::Failure;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs OCI containers, each in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "fcvm", version, disable_help_subcommand = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Where VMs, images and the guest system are kept [default: FCVM_DATA_DIR, ~/.local/share/fcvm or /var/lib/fcvm]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The same verbs in podman's place
    #[command(subcommand)]
    Podman(Box<PodmanVerb>),
    #[command(flatten)]
    Direct(PodmanVerb),
    /// Capture running VMs, and start VMs from that
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Start copies of a running VM, which goes on
    Fork(ForkArgs),
    /// Get kernel and guest system from this system's packages
    Setup(SetupArgs),
    /// Say what this host can do, and what is missing
    Doctor(DoctorArgs),
    /// List VMs with what runs them
    Ls(ListArgs),
    /// Print completions for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// Own a VM in the background
    #[command(hide = true)]
    Owner,
}

/// Podman's verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum PodmanVerb {
    /// Run a container in a new VM
    Run(Box<RunArgs>),
    /// Run a command in a running container
    Exec(ExecArgs),
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
    Wait(NamesArgs),
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
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Carry standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
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
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
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
    /// name=, id=, status=, label=, ancestor=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
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
    /// The VM
    pub(crate) name: String,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Seconds before SIGKILL [default: the VM's --stop-timeout, or 10]
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    /// All running VMs
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The VMs
    pub(crate) names: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    /// All running VMs
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The VMs
    pub(crate) names: Vec<String>,
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
    /// All VMs
    #[arg(short, long)]
    pub(crate) all: bool,
    /// That one is not there is no error
    #[arg(short, long)]
    pub(crate) ignore: bool,
    /// The VMs
    pub(crate) names: Vec<String>,
}

/// Verbs that take names only.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// The VMs
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// json, or a template such as '{{.State.Status}}'
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// VMs or images
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

/// `port`.
#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    /// The VM
    pub(crate) name: String,
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
    /// No header
    #[arg(long, alias = "no-heading")]
    pub(crate) noheading: bool,
    /// json, table, or a template
    #[arg(long)]
    pub(crate) format: Option<String>,
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
    /// That one is not there is no error
    #[arg(short, long)]
    pub(crate) ignore: bool,
    /// The images
    pub(crate) images: Vec<String>,
}

/// `setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Remove what killed VMs left
    #[arg(long)]
    pub(crate) fix: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print problems only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Parses the command line, or says in one sentence what is wrong with it.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, Failure> {
    let mut text = Vec::new();
    for arg in args {
        let arg = arg
            .into_string()
            .map_err(|arg| Failure::new(format!("the argument {arg:?} is not UTF-8; it cannot be passed on")))?;
        text.push(arg);
    }
    Cli::try_parse_from(&text).map_err(|error| unsupported::refuse(error, &text))
}

/// The whole command, for completions and man pages.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
