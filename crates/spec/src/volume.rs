//! Directories and files of the host in a container: `--volume`, `--mount`.

use crate::{Invalid, Tmpfs};
use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// What is shown.
    pub source: VolumeSource,
    /// Where the container sees it: an absolute path.
    pub target: String,
    /// Nobody in the VM can write to it.
    #[serde(default)]
    pub read_only: bool,
    /// What the guest may remember of it.
    #[serde(default)]
    pub cache: VolumeCache,
    /// What is done with what lies in it.
    #[serde(default)]
    pub rights: VolumeRights,
}

/// What a volume shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// A directory or file of the host, by its absolute path.
    Path(String),
}

/// What a guest may remember of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeCache {
    /// Data while nobody changes it, names and attributes for a second.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// As [`VolumeCache::Auto`], and writes are collected: where nobody else writes.
    Writeback,
}

/// What may be done with what lies in a volume; podman gives the first only, unless asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRights {
    /// Programs in it can be executed.
    pub exec: bool,
    /// They may be set to run as another user.
    pub suid: bool,
    /// Device nodes can be made and used.
    pub dev: bool,
}

impl Default for VolumeRights {
    fn default() -> Self {
        Self { exec: true, suid: false, dev: false }
    }
}

/// What `--mount` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountAsk {
    /// A volume.
    Volume(VolumeSpec),
    /// A file system in memory.
    Tmpfs(Tmpfs),
}

impl VolumeSpec {
    /// Parses `SOURCE:TARGET[:OPTION,…]`. The source is as it was typed: whoever knows the directory makes it absolute.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = |expected: &str| Invalid::new("volume", text, expected);
        let mut parts = text.splitn(3, ':');
        let (Some(source), Some(target)) = (parts.next(), parts.next()) else {
            return Err(wrong("SOURCE:TARGET[:OPTIONS] is expected, for example /src:/src:ro"));
        };
        let mut volume = Self::new(source, target).map_err(wrong)?;
        for option in parts.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
            volume.set(option).map_err(|expected| Invalid::new("volume option", option, expected))?;
        }
        Ok(volume)
    }

    /// Parses `type=bind|tmpfs,source=…,target=…[,OPTION]…`.
    pub fn parse_mount(text: &str) -> Result<MountAsk, Invalid> {
        let wrong = |expected: &str| Invalid::new("mount", text, expected);
        let (mut kind, mut source, mut target, mut options) = ("volume", None, None, Vec::new());
        for field in text.split(',').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "type" => kind = value,
                "source" | "src" => source = Some(value),
                "target" | "dst" | "destination" => target = Some(value),
                // `ro=false` and the like.
                "ro" | "readonly" | "rw" => options.push(if (key == "rw") == (value != "false") { "rw" } else { "ro" }),
                "relabel" | "bind-propagation" | "consistency" => {}
                _ => options.push(field),
            }
        }
        let target =
            target.ok_or_else(|| wrong("a target is expected, for example type=bind,source=/src,target=/src"))?;
        match (kind, source) {
            ("bind", Some(source)) => {
                let mut volume = Self::new(source, target).map_err(wrong)?;
                for option in options {
                    volume.set(option).map_err(|expected| Invalid::new("mount option", option, expected))?;
                }
                Ok(MountAsk::Volume(volume))
            }
            ("bind", None) => Err(wrong("a source is expected, for example type=bind,source=/src,target=/src")),
            ("tmpfs", None) => {
                let options = options.iter().map(|option| option.replace("tmpfs-", ""));
                Ok(MountAsk::Tmpfs(Tmpfs { path: absolute(target).map_err(wrong)?, options: options.collect() }))
            }
            _ => Err(wrong("its type is bind or tmpfs, and tmpfs has no source")),
        }
    }

    fn new(source: &str, target: &str) -> Result<Self, &'static str> {
        if !source.starts_with(['/', '.']) {
            return Err("its source is a path, for example /src or ./src");
        }
        let (source, target) = (VolumeSource::Path(source.to_owned()), absolute(target)?);
        Ok(Self { source, target, read_only: false, cache: VolumeCache::default(), rights: VolumeRights::default() })
    }

    fn set(&mut self, option: &str) -> Result<(), &'static str> {
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "exec" => self.rights.exec = true,
            "noexec" => self.rights.exec = false,
            "suid" => self.rights.suid = true,
            "nosuid" => self.rights.suid = false,
            "dev" => self.rights.dev = true,
            "nodev" => self.rights.dev = false,
            "cache=auto" => self.cache = VolumeCache::Auto,
            "cache=none" => self.cache = VolumeCache::None,
            "cache=writeback" => self.cache = VolumeCache::Writeback,
            // There is no SELinux in the guest, what is mounted inside stays inside, and binds are recursive.
            "z" | "Z" | "bind" | "rbind" | "private" | "rprivate" | "slave" | "rslave" => {}
            "shared" | "rshared" => return Err("what a VM mounts cannot be seen on the host"),
            _ => {
                return Err(
                    "ro, rw, exec, noexec, suid, nosuid, dev, nodev, z, Z or cache=auto|none|writeback is expected",
                );
            }
        }
        Ok(())
    }
}

/// The path of a place in the container: without what would make two names of one place.
fn absolute(target: &str) -> Result<String, &'static str> {
    let parts: Vec<&str> = target.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if !target.starts_with('/') || parts.is_empty() || parts.contains(&"..") || target.contains('\0') {
        return Err("its target is an absolute path other than /");
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(source: &str, target: &str) -> VolumeSpec {
        VolumeSpec::new(source, target).unwrap()
    }

    #[test]
    fn a_volume_is_source_target_and_options() {
        assert_eq!(VolumeSpec::parse("/a:/b"), Ok(path("/a", "/b")));
        let expected = VolumeSpec { read_only: true, ..path("./a", "/b/c") };
        assert_eq!(VolumeSpec::parse("./a://b/./c/:z,ro,rprivate"), Ok(expected));
        let volume = VolumeSpec::parse("/a:/b:noexec,dev,cache=writeback").unwrap();
        assert_eq!(volume.rights, VolumeRights { exec: false, suid: false, dev: true });
        assert_eq!(volume.cache, VolumeCache::Writeback);
        for bad in ["/a", "a:/b", "/a:b", "/a:/", "/a:/b/../c", "/a:/b:x", "/a:/b:shared", "/a:/b:cache=all"] {
            assert!(VolumeSpec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mount_is_a_volume_or_in_memory() {
        let volume = VolumeSpec { read_only: true, ..path("/a", "/b") };
        for text in [
            "type=bind,src=/a,dst=/b,ro",
            "type=bind,source=/a,target=/b,readonly=true",
            "ro,rw=false,type=bind,src=/a,destination=/b",
        ] {
            assert_eq!(VolumeSpec::parse_mount(text), Ok(MountAsk::Volume(volume.clone())), "{text}");
        }
        let tmpfs = Tmpfs { path: "/t".to_owned(), options: vec!["size=1m".to_owned()] };
        assert_eq!(VolumeSpec::parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m"), Ok(MountAsk::Tmpfs(tmpfs)));
        for bad in ["type=bind,dst=/b", "type=bind,src=/a", "type=tmpfs,src=/a,dst=/b", "type=x,src=/a,dst=/b"] {
            assert!(VolumeSpec::parse_mount(bad).is_err(), "{bad}");
        }
    }
}
