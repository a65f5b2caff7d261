//! Podman's verbs and their flags, but for `run`'s, which are in [`super::run`].

mod images;
mod inside;
mod life;
mod seen;

pub(crate) use images::{ImagesArgs, LoadArgs, PullArgs, RmiArgs, SaveArgs, SaveFormat};
pub(crate) use inside::{AttachArgs, ExecArgs};
pub(crate) use life::{
    KillArgs, PruneVmsArgs, RestartArgs, RmArgs, StartArgs, StopArgs, UpdateArgs, WaitArgs, WaitCondition, Which,
};
pub(crate) use seen::{EventsArgs, FormatArgs, InspectArgs, InspectKind, ListArgs, LogsArgs, PortArgs, Sort};

use super::{
    CommitArgs, CopyArgs, ExportArgs, FileChangesArgs, GenerateVerb, RunArgs, StatsArgs, SystemVerb, TopArgs,
    VolumeVerb,
};
use clap::{Args, Subcommand};

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
    /// Verbs on named volumes, and on what VMs have changed in volumes of their own
    #[command(subcommand)]
    Volume(VolumeVerb),
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
    /// Write what lets other programs start VMs
    #[command(subcommand)]
    Generate(GenerateVerb),
    /// List images
    Images(ImagesArgs),
    /// Fetch an image
    Pull(PullArgs),
    /// Load images from an archive
    Load(LoadArgs),
    /// Write images to an archive
    Save(SaveArgs),
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

/// `container`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerVerb {
    /// Remove all VMs that do not run
    Prune(PruneVmsArgs),
}
