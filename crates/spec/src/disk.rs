//! Disks: the user's own, `--disk` and `--disk-dir`, and the size of the one that a VM writes, `--rootfs-size`.

use crate::unit::parse_bytes;
use crate::volume::absolute;
use crate::{Invalid, MiB};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A disk of the user's. Its number is its place among those of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// What it is.
    pub source: DiskSource,
    /// Where the container sees its file system: an absolute path.
    pub target: String,
    /// Nobody in the VM can write to it.
    #[serde(default)]
    pub read_only: bool,
}

/// What a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskSource {
    /// A file of the host, by its absolute path.
    File {
        /// The path.
        path: String,
        /// How the disk lies in it.
        format: DiskFormat,
    },
    /// A directory of the host by its absolute path, of which a read-only disk is made when the VM first starts.
    Directory(String),
}

/// How a disk lies in a file. It is never guessed from what is in the file: a guest writes that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFormat {
    /// As it is.
    #[default]
    Raw,
    /// QEMU's format.
    Qcow2,
}

impl DiskSpec {
    /// Parses `FILE:TARGET[:OPTION,…]`. The file is as it was typed: whoever knows the directory makes it absolute.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = |expected: &str| Invalid::new("disk", text, expected);
        let mut parts = text.splitn(3, ':');
        let (Some(path), Some(target)) = (parts.next(), parts.next()) else {
            return Err(wrong("FILE:TARGET[:OPTIONS] is expected, for example data.ext4:/data"));
        };
        if path.is_empty() {
            return Err(wrong("a file is expected, for example data.ext4:/data"));
        }
        let mut format = if path.ends_with(".qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw };
        let mut read_only = false;
        for option in parts.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                "raw" => format = DiskFormat::Raw,
                "qcow2" => format = DiskFormat::Qcow2,
                _ => return Err(Invalid::new("disk option", option, "ro, rw, raw or qcow2 is expected")),
            }
        }
        let source = DiskSource::File { path: path.to_owned(), format };
        Ok(Self { source, target: absolute(target).map_err(wrong)?, read_only })
    }

    /// Parses `DIR:TARGET`, likewise.
    pub fn parse_directory(text: &str) -> Result<Self, Invalid> {
        let wrong = |expected: &str| Invalid::new("disk", text, expected);
        match text.split(':').collect::<Vec<_>>()[..] {
            [path, target] | [path, target, "ro"] if !path.is_empty() => {
                let source = DiskSource::Directory(path.to_owned());
                Ok(Self { source, target: absolute(target).map_err(wrong)?, read_only: true })
            }
            [_, _, "rw"] => Err(wrong("a disk of a directory is read-only; use --volume to write to the directory")),
            _ => Err(wrong("DIR:TARGET is expected, for example models:/models")),
        }
    }

    /// The path on the host.
    pub fn path(&self) -> &str {
        match &self.source {
            DiskSource::File { path, .. } | DiskSource::Directory(path) => path,
        }
    }

    /// The same, to be changed.
    pub fn path_mut(&mut self) -> &mut String {
        match &mut self.source {
            DiskSource::File { path, .. } | DiskSource::Directory(path) => path,
        }
    }

    /// How it lies in its file.
    pub fn format(&self) -> DiskFormat {
        match self.source {
            DiskSource::File { format, .. } => format,
            DiskSource::Directory(_) => DiskFormat::Raw,
        }
    }
}

/// The size of the disk of a VM's own writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootfsSize(MiB);

impl RootfsSize {
    /// The least that a file system with room for anything fits in.
    pub const LEAST: Self = Self(MiB(64));
    /// That of a VM that asks for none. It is sparse: what is not written takes no space.
    pub const DEFAULT: Self = Self(MiB(10 << 10));
    /// The largest file that every host's file system can have.
    pub const MOST: Self = Self(MiB(8 << 20));

    /// Returns it in bytes.
    pub fn bytes(self) -> u64 {
        self.0.bytes()
    }
}

impl fmt::Display for RootfsSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RootfsSize {
    type Err = Invalid;

    /// Parses podman's grammar of sizes, rounded up to whole MiB.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = parse_bytes(text)?;
        if (Self::LEAST.bytes()..=Self::MOST.bytes()).contains(&bytes) {
            return text.parse().map(Self);
        }
        let (least, most) = (Self::LEAST, Self::MOST);
        Err(Invalid::new("size of a root file system", text, format!("it is from {least} to {most}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, format: DiskFormat, read_only: bool) -> DiskSpec {
        let source = DiskSource::File { path: path.to_owned(), format };
        DiskSpec { source, target: "/data".to_owned(), read_only }
    }

    #[test]
    fn a_disk_is_a_file_a_target_and_options() {
        use DiskFormat::{Qcow2, Raw};
        for (text, disk) in [
            ("a.img:/data", file("a.img", Raw, false)),
            ("/x/a.qcow2:/data/:ro", file("/x/a.qcow2", Qcow2, true)),
            ("a.qcow2:/data:raw", file("a.qcow2", Raw, false)),
            ("a:/data:qcow2,ro,rw", file("a", Qcow2, false)),
        ] {
            assert_eq!(DiskSpec::parse(text), Ok(disk), "{text}");
        }
        for bad in ["a", ":/data", "a:data", "a:/", "a:/data/..", "a:/data:vmdk"] {
            assert!(DiskSpec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_disk_of_a_directory_is_read_only() {
        let disk =
            DiskSpec { source: DiskSource::Directory("d".to_owned()), target: "/data".to_owned(), read_only: true };
        assert_eq!(DiskSpec::parse_directory("d:/data"), Ok(disk.clone()));
        assert_eq!(DiskSpec::parse_directory("d:/data:ro"), Ok(disk));
        for bad in ["d", "d:/", ":/data", "d:/data:rw", "d:/data:ro:ro"] {
            assert!(DiskSpec::parse_directory(bad).is_err(), "{bad}");
        }
        assert!(DiskSpec::parse_directory("d:/data:rw").unwrap_err().to_string().contains("--volume"));
    }

    #[test]
    fn a_root_file_system_has_a_least_and_a_most() {
        assert_eq!("10g".parse(), Ok(RootfsSize::DEFAULT));
        assert_eq!("64m".parse(), Ok(RootfsSize::LEAST));
        for bad in ["63m", "0", "9t", "x", "-1g"] {
            assert!(bad.parse::<RootfsSize>().is_err(), "{bad}");
        }
    }
}
