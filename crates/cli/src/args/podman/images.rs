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

/// `save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// What to write: a file that podman, docker and skopeo load, or a directory
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    pub(crate) format: SaveFormat,
    /// The file or the directory; standard output if none is named
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// All names are images, not further names of the first
    #[arg(short, long)]
    pub(crate) multi_image_archive: bool,
    /// No progress: there is none
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image, and further names that it is to have in the archive
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// In what an image is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SaveFormat {
    /// What `docker save` writes
    DockerArchive,
    /// An OCI layout in a file
    OciArchive,
    /// An OCI layout in a directory
    OciDir,
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
