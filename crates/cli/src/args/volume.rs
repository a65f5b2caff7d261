//! `volume`.

use crate::error::Failure;
use clap::{Args, Subcommand};
use fcvm_engine::copy::VmPath;
use std::collections::BTreeMap;

/// Verbs on volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeVerb {
    /// Make a volume
    Create(CreateVolumeArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ListVolumesArgs),
    /// Show all about volumes as JSON
    Inspect(InspectVolumesArgs),
    /// Remove volumes that no VM has
    #[command(visible_alias = "remove")]
    Rm(RemoveVolumesArgs),
    /// Remove all volumes that no VM has
    Prune(PruneVolumesArgs),
    /// End with 0 if there is a volume, with 1 if not
    Exists {
        /// The volume
        name: String,
    },
    /// List what a VM has changed in a volume with `fork`
    Diff(ViewArgs),
    /// Apply what a VM has changed in a volume with `fork` to the directory of the host, or list the conflicts
    Apply(ViewArgs),
}

/// `volume create`.
#[derive(Debug, Args)]
pub(crate) struct CreateVolumeArgs {
    /// local
    #[arg(long, default_value = "local", hide_default_value = true)]
    pub(crate) driver: String,
    /// Label of the volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    #[arg(short, long, hide = true)]
    opt: Vec<String>,
    /// Its name; a random one if there is none
    pub(crate) name: Option<String>,
}

impl CreateVolumeArgs {
    /// Refuses what a volume here cannot be.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.driver != "local" {
            return Err(Failure::new(format!("there is no volume driver {:?}: volumes are local", self.driver)));
        }
        if let Some(option) = self.opt.first() {
            let why = "a volume is a directory of this host; mount the device there and give its path to --volume";
            return Err(Failure::new(format!("--opt {option} is not supported: {why}")));
        }
        Ok(())
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        super::run::labels(&self.label)
    }
}

/// `volume ls`.
#[derive(Debug, Args)]
pub(crate) struct ListVolumesArgs {
    /// name=, driver=, label=, dangling=, until=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// json, or a template such as '{{.Name}} {{.Mountpoint}}'
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// No header
    #[arg(long)]
    pub(crate) noheading: bool,
    /// Names only
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `volume inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectVolumesArgs {
    /// All of them
    #[arg(short, long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// json, or a template such as '{{.Mountpoint}}'
    #[arg(short, long)]
    pub(crate) format: Option<String>,
    /// The volumes
    #[arg(required_unless_present = "all")]
    pub(crate) names: Vec<String>,
}

/// `volume rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveVolumesArgs {
    /// All of them
    #[arg(short, long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// The VMs that have one too, running ones as well
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Seconds before SIGKILL for such VMs
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u32>,
    /// The volumes
    #[arg(required_unless_present = "all")]
    pub(crate) names: Vec<String>,
}

/// `volume prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneVolumesArgs {
    /// Only those that match, as in ls
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// `volume diff` and `volume apply`.
#[derive(Debug, Args)]
pub(crate) struct ViewArgs {
    /// json
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// VM:PATH, where PATH is the volume's in the container
    view: String,
}

impl ViewArgs {
    /// The volume.
    pub(crate) fn at(&self) -> Result<VmPath, Failure> {
        let wrong = || Failure::new(format!("{:?} names no volume of a VM: VM:PATH is expected", self.view));
        let (vm, path) = self.view.split_once(':').ok_or_else(wrong)?;
        if vm.is_empty() || !path.starts_with('/') {
            return Err(wrong());
        }
        Ok(VmPath { vm: vm.to_owned(), path: path.to_owned() })
    }
}
