//! What was typed. Podman's grammar; a flag that is not there is refused by its name.

mod copy;
mod disks;
mod environment;
mod flags;
mod generate;
mod health;
mod machine;
mod metadata;
mod mounts;
mod podman;
mod registry;
mod run;
mod snapshot;
mod streams;
mod typed;
mod unsupported;
mod volume;
mod watch;
mod words;

pub(crate) use copy::{CopyArgs, End};
pub(crate) use environment::environment;
pub(crate) use generate::{GenerateVerb, SystemdArgs};
pub(crate) use machine::cpu_milli;
pub(crate) use metadata::{MetadataVerb, metadata};
pub(crate) use mounts::map_from;
pub(crate) use podman::{
    AttachArgs, ContainerVerb, EventsArgs, ExecArgs, FormatArgs, HealthcheckVerb, ImagesArgs, InspectArgs, InspectKind,
    KillArgs, ListArgs, LoadArgs, LogsArgs, PodmanVerb, PortArgs, PrepareArgs, PruneVmsArgs, PullArgs, RestartArgs,
    RmArgs, RmiArgs, SaveArgs, SaveFormat, Sort, StartArgs, StopArgs, UpdateArgs, WaitArgs, WaitCondition, Which,
};
pub(crate) use registry::{RegistryArgs, SourceArgs};
pub(crate) use run::{Place, RunArgs, RunPlan, fresh};
pub(crate) use snapshot::{
    AsJson, ChildArgs, CloneArgs, CreateArgs, DiffArgs, ForkArgs, ListSnapshotsArgs, RemoveSnapshotsArgs, SnapshotVerb,
};
pub(crate) use streams::StreamArgs;
pub(crate) use typed::Typed;
pub(crate) use volume::{
    CreateVolumeArgs, InspectVolumesArgs, ListVolumesArgs, PruneVolumesArgs, RemoveVolumesArgs, ViewArgs, VolumeVerb,
};
pub(crate) use watch::{
    CommitArgs, CommitFormat, DfArgs, ExportArgs, FileChangesArgs, PruneArgs, StatsArgs, SystemVerb, TopArgs,
};

use crate::error::Failure;
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs OCI containers, each in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "fcvm", version, max_term_width = 100)]
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
    /// Let a running VM go back to a snapshot: same name, same ports
    Rewind {
        /// The VM
        vm: String,
        /// The snapshot, by tag or id
        snapshot: String,
    },
    /// Change or print what a VM may know of itself: inside, at http://169.254.169.254
    #[command(subcommand)]
    Metadata(MetadataVerb),
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
    /// Print what every flag of podman is here
    #[command(hide = true)]
    Flags,
    /// Own a VM in the background
    #[command(hide = true)]
    Owner,
}

/// `setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Also make a guest system with this in it
    #[arg(long, value_name = "WHAT")]
    pub(crate) with: Vec<With>,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What a guest system may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum With {
    /// Podman, for `run --engine podman`
    Podman,
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
    let cli = Cli::try_parse_from(&text).map_err(|error| unsupported::refuse(&error, &text))?;
    Ok(noted(cli, text))
}

/// Tells a verb that makes a VM how it was asked for.
fn noted(mut cli: Cli, typed: Vec<String>) -> Cli {
    let verb = match &mut cli.verb {
        Verb::Podman(verb) => verb,
        Verb::Direct(verb) => verb,
        _ => return cli,
    };
    if let PodmanVerb::Run(args) | PodmanVerb::Create(args) = verb {
        args.typed = typed;
    }
    cli
}

/// The page about podman's flags.
pub(crate) fn podmans_flags() -> String {
    flags::document(&command())
}

/// The whole command, for completions and man pages.
pub(crate) fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
