//! Disks: `--disk`, `--disk-dir`, `--rootfs-size`.

use crate::error::Failure;
use clap::Args;
use fcvm_spec::{DiskSpec, RootfsSize};

/// What a VM has for disks.
#[derive(Debug, Args)]
pub(crate) struct DiskArgs {
    /// Disk with a file system: FILE:/path[:ro,raw,qcow2]
    #[arg(long, value_name = "DISK")]
    disk: Vec<String>,
    /// Read-only disk made of a directory when the VM first starts: DIR:/path
    #[arg(long, value_name = "DISK")]
    disk_dir: Vec<String>,
    /// Size of the container's root file system, for example 20g
    #[arg(long, value_name = "SIZE")]
    rootfs_size: Option<String>,
}

impl DiskArgs {
    /// The user's disks. Their paths become absolute here, where the directory is known.
    pub(super) fn disks(&self) -> Result<Vec<DiskSpec>, Failure> {
        let files = self.disk.iter().map(|text| DiskSpec::parse(text));
        let directories = self.disk_dir.iter().map(|text| DiskSpec::parse_directory(text));
        files.chain(directories).map(|disk| settled(disk?)).collect()
    }

    /// The size of the root file system, if it was asked for.
    pub(super) fn rootfs_size(&self) -> Result<Option<RootfsSize>, Failure> {
        Ok(self.rootfs_size.as_ref().map(|text| text.parse()).transpose()?)
    }
}

fn settled(mut disk: DiskSpec) -> Result<DiskSpec, Failure> {
    let path = disk.path_mut();
    let absolute = std::path::absolute(&*path).ok().and_then(|path| path.into_os_string().into_string().ok());
    *path = absolute.ok_or_else(|| Failure::new(format!("the path {path:?} has no absolute form")))?;
    Ok(disk)
}
