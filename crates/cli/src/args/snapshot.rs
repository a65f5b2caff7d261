//! What was typed after `snapshot` and `fork`.

use super::{environment, map_from};
use crate::error::Failure;
use clap::{Args, Subcommand};
use fcvm_engine::snapshot::{Moved, Quiesce};
use fcvm_store::snapshot::Holds;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Verbs on snapshots.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Capture a running VM, which goes on
    Create(CreateArgs),
    /// Start VMs from a snapshot
    Run(CloneArgs),
    /// List snapshots
    #[command(visible_alias = "list")]
    Ls(ListSnapshotsArgs),
    /// Show all about snapshots as JSON
    Inspect(SnapshotsArgs),
    /// Remove snapshots; VMs and snapshots that came of them stay
    Rm(RemoveSnapshotsArgs),
    /// Remove every snapshot that has no tag
    Prune(AsJson),
    /// Show which snapshot came of which, and the VMs that run from them
    Tree(AsJson),
    /// Show what is not the same in two snapshots, or in a snapshot and a running VM
    Diff(DiffArgs),
    /// Make a snapshot stand by itself: those of this backend always do
    Flatten {
        /// Tags or ids
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
    /// Record which part of a snapshot's memory is used at once; later starts have it read in ahead
    Tune {
        /// What is run in a VM of it meanwhile, as a shell would
        #[arg(long, value_name = "COMMAND", default_value = "true")]
        exec: String,
        /// The snapshot, by tag or id
        snapshot: String,
    },
    /// Keep a snapshot ready for `snapshot run --pid`, until a signal comes
    Serve {
        #[command(flatten)]
        form: AsJson,
        /// The snapshot, by tag or id
        snapshot: String,
    },
    /// Read every byte of snapshots and compare it with what was written
    Verify(SnapshotsArgs),
}

/// How it is said: verbs that show print one document, verbs that act print a line for each snapshot.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct AsJson {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Some snapshots.
#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    pub(crate) form: AsJson,
    /// Tags or ids
    #[arg(required = true)]
    pub(crate) snapshots: Vec<String>,
}

/// `snapshot create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Give the snapshot this tag; another that has it loses it
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// Let the guest write back its file systems first (the default)
    #[arg(long, conflicts_with = "no_quiesce")]
    quiesce: bool,
    /// Do not
    #[arg(long)]
    no_quiesce: bool,
    /// Capture what the VM has written to its disk, not its memory: VMs boot from such a snapshot
    #[arg(long, conflicts_with = "no_quiesce")]
    disk_only: bool,
    /// Write KEY=VALUE on it
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Print what was made as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The VM
    pub(crate) vm: String,
}

impl CreateArgs {
    pub(crate) fn quiesce(&self) -> Quiesce {
        if self.no_quiesce { Quiesce::No } else { Quiesce::Yes }
    }

    pub(crate) fn holds(&self) -> Holds {
        if self.disk_only { Holds::Disk } else { Holds::Machine }
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let label = |text: &String| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        self.label.iter().map(label).collect()
    }
}

/// `snapshot run`.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    pub(crate) children: ChildArgs,
    /// Leave the VM in the background and print its id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Carry standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Of the snapshot that this process serves
    #[arg(long, value_name = "PID", conflicts_with = "snapshot")]
    pub(crate) pid: Option<u32>,
    /// The snapshot, by tag or id
    #[arg(required_unless_present = "pid")]
    pub(crate) snapshot: Option<String>,
}

/// `fork`.
#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    #[command(flatten)]
    pub(crate) children: ChildArgs,
    /// The VM
    pub(crate) vm: String,
}

/// What VMs that start from a snapshot are.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChildArgs {
    /// Name the VM; several are NAME-1, NAME-2 and so on
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Start this many
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) count: u16,
    /// Remove the VM when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Run this in the VM, as a shell would, and end with it
    #[arg(long, value_name = "COMMAND")]
    pub(crate) exec: Option<String>,
    /// Set a variable for later commands, and in /run/fcvm/env of the container
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Read such variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Publish a port: [IP:][HOSTPORT:]PORT[/tcp|udp]
    #[arg(short, long, value_name = "PORT")]
    pub(crate) publish: Vec<String>,
    /// The container's host name
    #[arg(long)]
    pub(crate) hostname: Option<String>,
    /// Print what became of each VM as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// A directory of a volume lies elsewhere now, or a volume has another name: OLD=NEW
    #[arg(long, value_name = "OLD=NEW")]
    map_from: Vec<String>,
    /// Say nothing about the restore
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(long, hide = true)]
    cpus: Option<String>,
    #[arg(short, long, hide = true)]
    memory: Option<String>,
}

impl ChildArgs {
    pub(crate) fn env(&self) -> Result<Vec<String>, Failure> {
        let env = environment(&self.env_file, &self.env)?;
        // The container gets them in a file, a line each.
        if let Some(broken) = env.iter().find(|variable| variable.contains('\n')) {
            let name = broken.split('=').next().unwrap_or_default();
            return Err(Failure::new(format!("the variable {name} has a line break; a clone is given single lines")));
        }
        Ok(env)
    }

    /// What lies elsewhere.
    pub(crate) fn moved(&self) -> Result<Vec<Moved>, Failure> {
        self.map_from.iter().map(|text| map_from(text)).collect()
    }

    /// Refuses what cannot be had.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        for (flag, given) in [("--cpus", &self.cpus), ("--memory", &self.memory)] {
            if given.is_some() {
                let why = "a snapshot holds a machine with its processors and memory; start a new one with `fcvm run`";
                return Err(Failure::new(format!("{flag} cannot be changed: {why}")));
            }
        }
        Ok(())
    }
}

/// `snapshot diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The earlier: a snapshot by tag or id, or a running VM, which is captured for this
    pub(crate) before: String,
    /// The later
    pub(crate) after: String,
}

/// `snapshot ls`.
#[derive(Debug, Args)]
pub(crate) struct ListSnapshotsArgs {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Whole ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
}

/// `snapshot rm`.
#[derive(Debug, Args)]
pub(crate) struct RemoveSnapshotsArgs {
    /// That one is not there is fine; damaged ones go too
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) named: SnapshotsArgs,
}
