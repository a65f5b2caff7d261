//! Flags of the verbs that go into a container.

use crate::args::StreamArgs;
use clap::Args;
use std::path::PathBuf;

/// `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Keys that leave it alone: characters and ctrl-CHARACTER, separated by commas
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Do not carry standard input
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub(crate) sig_proxy: bool,
    /// The VM
    pub(crate) name: String,
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
