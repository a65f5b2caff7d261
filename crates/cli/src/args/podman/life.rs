//! Flags of the verbs on a VM's life, and which VMs are meant.

use clap::Args;
use std::path::PathBuf;

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

/// `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Be at it: see what it writes, and end as it ends
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// With --attach: carry standard input, which is done anyway if it was made with that
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that leave it alone: characters and ctrl-CHARACTER, separated by commas
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Pass signals on to the container [default: with --attach]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) sig_proxy: Option<bool>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
    /// The newest one
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Those that match, as in ps
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Also the VM whose id a file holds
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Vec<PathBuf>,
    /// The VMs
    pub(crate) names: Vec<String>,
}

impl StartArgs {
    /// Which VMs are meant.
    pub(crate) fn which(&self) -> Which {
        let Self { all, latest, filter, cidfile, names, .. } = self;
        let (filter, cidfile, names) = (filter.clone(), cidfile.clone(), names.clone());
        Which { all: *all, latest: *latest, filter, cidfile, names }
    }
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
    /// Nothing: anonymous volumes are on a VM's disk, which goes with it
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) which: Which,
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
    #[arg(short, long, required_unless_present_any = ["cpus", "rootfs_size"])]
    pub(crate) memory: Option<String>,
    /// Processors that it may use, for example 1.5
    #[arg(long)]
    pub(crate) cpus: Option<f64>,
    /// Size of its root file system, which only becomes larger, for example 20g
    #[arg(long, value_name = "SIZE")]
    pub(crate) rootfs_size: Option<String>,
    /// The VM
    pub(crate) name: String,
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
