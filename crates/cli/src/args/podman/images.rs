//! Flags of the verbs on images.

use crate::args::RegistryArgs;
use clap::Args;
use std::path::PathBuf;

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
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
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
