//! `generate`: what lets other programs start VMs.

use clap::{Args, Subcommand};

/// `generate`.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateVerb {
    /// Write a unit by which systemd starts and stops a VM
    Systemd(SystemdArgs),
}

/// `generate systemd`.
#[derive(Debug, Args)]
pub(crate) struct SystemdArgs {
    /// Call the VM and the unit by its name, not by its id
    #[arg(short, long)]
    pub(crate) name: bool,
    /// Make a new VM at each start, as this one was made, and remove it at its end
    #[arg(long)]
    pub(crate) new: bool,
    /// Write a file in the working directory, and print its path
    #[arg(short, long)]
    pub(crate) files: bool,
    /// json: an object of the unit's name and its text
    #[arg(long)]
    pub(crate) format: Option<String>,
    /// No comment with version and time
    #[arg(long)]
    pub(crate) no_header: bool,
    /// When systemd starts it again
    #[arg(long, value_name = "POLICY", default_value = "on-failure")]
    pub(crate) restart_policy: RestartWord,
    /// Seconds before that
    #[arg(long, value_name = "SECONDS")]
    pub(crate) restart_sec: Option<u32>,
    /// Seconds that a start may take
    #[arg(long, value_name = "SECONDS")]
    pub(crate) start_timeout: Option<u32>,
    /// Seconds before SIGKILL [default: the VM's --stop-timeout, or 10]
    #[arg(short = 't', long, visible_alias = "time", value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u32>,
    /// Beginning of the unit's name
    #[arg(long, value_name = "PREFIX", default_value = "container")]
    pub(crate) container_prefix: String,
    /// What stands between that and the VM
    #[arg(long, value_name = "TEXT", default_value = "-")]
    pub(crate) separator: String,
    /// Variable of the unit
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Unit that it starts after
    #[arg(long, value_name = "UNIT")]
    pub(crate) after: Vec<String>,
    /// Unit that it wants
    #[arg(long, value_name = "UNIT")]
    pub(crate) wants: Vec<String>,
    /// Unit that it requires
    #[arg(long, value_name = "UNIT")]
    pub(crate) requires: Vec<String>,
    /// The VM
    pub(crate) vm: String,
}

/// Systemd's words for `Restart=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RestartWord {
    No,
    OnSuccess,
    OnFailure,
    OnAbnormal,
    OnWatchdog,
    OnAbort,
    Always,
}

impl RestartWord {
    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnSuccess => "on-success",
            Self::OnFailure => "on-failure",
            Self::OnAbnormal => "on-abnormal",
            Self::OnWatchdog => "on-watchdog",
            Self::OnAbort => "on-abort",
            Self::Always => "always",
        }
    }
}
