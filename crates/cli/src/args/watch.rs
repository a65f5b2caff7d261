//! `top`, `stats`, `diff`, `export`, `commit` and `system`.

use clap::Args;
use std::path::PathBuf;

/// `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// The VM
    pub(crate) name: String,
    /// Columns, for example `pid user args`, or what the container's own ps is told: -eo pid,comm
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) columns: Vec<String>,
}

/// `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// All running VMs; they are meant where none is named
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Once
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Seconds from one time to the next
    #[arg(short, long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) interval: u32,
    /// Do not clear the terminal in between
    #[arg(long)]
    pub(crate) no_reset: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// json, table, or a template such as '{{.Name}} {{.CPUPerc}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// The VMs
    pub(crate) names: Vec<String>,
}

/// `diff`.
#[derive(Debug, Args)]
pub(crate) struct FileChangesArgs {
    /// json
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// The VM
    pub(crate) name: String,
}

/// `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file to write to instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The VM
    pub(crate) name: String,
}

/// `commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Who made it
    #[arg(short, long)]
    pub(crate) author: Option<String>,
    /// Change what is said about the image: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// For whom: an image here is for either
    #[arg(short, long, value_name = "FORMAT", default_value = "oci")]
    pub(crate) format: CommitFormat,
    /// Write the id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// What is mounted in the container is a volume of the image
    #[arg(long)]
    pub(crate) include_volumes: bool,
    /// What it is
    #[arg(short, long)]
    pub(crate) message: Option<String>,
    /// The container's processes stand still meanwhile
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(crate) pause: bool,
    /// One layer: there is never another
    #[arg(short, long)]
    pub(crate) squash: bool,
    /// No progress: there is none
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The VM
    pub(crate) name: String,
    /// The image's name, or oci-archive:FILE[:NAME] for a file that other tools load
    pub(crate) image: Option<String>,
}

/// What a committed image is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CommitFormat {
    /// All that run images
    Oci,
    /// Docker, whose images know of health checks
    Docker,
}

/// `system`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SystemVerb {
    /// Show what takes how much of the disk
    Df(DfArgs),
    /// Remove what nobody uses: ended VMs, images without a name, snapshots of the cache
    Prune(PruneArgs),
    /// Print what this installation is and holds
    Info(super::FormatArgs),
}

/// `system df`.
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Each by itself
    #[arg(short, long, conflicts_with = "format")]
    pub(crate) verbose: bool,
    /// json, or a template such as '{{.Type}} {{.Size}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
}

/// `system prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Every image that no VM uses, with its names
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Volumes that no VM has, too
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Only what fits: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
}
