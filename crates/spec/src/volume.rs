//! Directories and files of the host in a container: `--volume`, `--mount`.

use crate::{Invalid, Tmpfs, VolumeName};
use serde::{Deserialize, Serialize};
use std::fmt;

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
    /// What is in it at first.
    #[serde(default)]
    pub beginning: VolumeBeginning,
    /// Who owns it.
    #[serde(default)]
    pub owner: VolumeOwner,
    /// Whether the VM has it for itself.
    #[serde(default)]
    pub view: VolumeView,
    /// Whether changes of the host raise events in the VM.
    #[serde(default)]
    pub events: VolumeEvents,
}

/// What a volume shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// A directory or file of the host, by its absolute path.
    Path(String),
    /// A named volume.
    Name(VolumeName),
    /// A place on the VM's own disk: an anonymous volume.
    Own,
}

/// What is in a volume at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeBeginning {
    /// What is there.
    #[default]
    AsItIs,
    /// If it is new and empty, what the image has at its place.
    FromImage,
}

/// Who owns what is in a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeOwner {
    /// Who owns it.
    #[default]
    AsItIs,
    /// The user that the container runs as, from its start on: `U`.
    Container,
}

/// Whether a VM has a volume for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeView {
    /// What it writes is written to the source.
    #[default]
    Shared,
    /// What it writes stays with it: `fork`.
    Fork {
        /// When it was made, in nanoseconds since 1970, once it was.
        since_ns: Option<i64>,
    },
}

/// Whether what the host changes raises inotify events in a VM. Where nobody else writes ([`VolumeCache::Writeback`]), and
/// in a view, which stays as it was, nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeEvents {
    /// It does.
    #[default]
    On,
    /// It does not, and the host's directories are not watched.
    Off,
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

impl fmt::Display for VolumeSource {
    /// As it is typed; nothing for a place of the VM's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.pad(path),
            Self::Name(name) => f.pad(name.as_str()),
            Self::Own => f.pad(""),
        }
    }
}

impl VolumeSource {
    /// Parses what is typed: a path begins with `/` or `.`, anything else is a name.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.starts_with(['/', '.']) { Ok(Self::Path(text.to_owned())) } else { text.parse().map(Self::Name) }
    }
}

impl VolumeSpec {
    /// Parses `[SOURCE:]TARGET[:OPTION,…]`. A path is as it was typed: whoever knows the directory makes it absolute.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = |expected: &str| Invalid::new("volume", text, expected);
        let mut parts = text.splitn(3, ':');
        let (source, target) = match (parts.next().unwrap_or_default(), parts.next()) {
            (target, None) => (VolumeSource::Own, target),
            (source, Some(target)) => (VolumeSource::parse(source)?, target),
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
            ("bind" | "volume", source) if kind == "volume" || source.is_some() => {
                let source = source.map_or(Ok(VolumeSource::Own), VolumeSource::parse)?;
                if matches!(source, VolumeSource::Path(_)) != (kind == "bind") {
                    return Err(wrong(
                        "the source of a bind is a path, for example ./src, and that of a volume a name",
                    ));
                }
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
            _ => Err(wrong("its type is bind, volume or tmpfs, and tmpfs has no source")),
        }
    }

    /// A place on a VM's own disk that begins as the image has it there. None: there cannot be a volume.
    pub fn own(target: &str) -> Option<Self> {
        Self::new(VolumeSource::Own, target).ok()
    }

    fn new(source: VolumeSource, target: &str) -> Result<Self, &'static str> {
        let beginning = match source {
            VolumeSource::Path(_) => VolumeBeginning::AsItIs,
            VolumeSource::Name(_) | VolumeSource::Own => VolumeBeginning::FromImage,
        };
        Ok(Self {
            source,
            target: absolute(target)?,
            read_only: false,
            cache: VolumeCache::default(),
            rights: VolumeRights::default(),
            beginning,
            owner: VolumeOwner::default(),
            view: VolumeView::default(),
            events: VolumeEvents::default(),
        })
    }

    /// Whether what the host changes in it raises events in the VM.
    pub fn raises_events(&self) -> bool {
        self.events == VolumeEvents::On
            && self.view == VolumeView::Shared
            && self.cache != VolumeCache::Writeback
            && self.is_of_host()
    }

    /// Whether it shows something of the host.
    pub fn is_of_host(&self) -> bool {
        self.source != VolumeSource::Own
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
            "events=on" => self.events = VolumeEvents::On,
            "events=off" => self.events = VolumeEvents::Off,
            "U" => self.owner = VolumeOwner::Container,
            "copy" if !matches!(self.source, VolumeSource::Path(_)) => self.beginning = VolumeBeginning::FromImage,
            "nocopy" => self.beginning = VolumeBeginning::AsItIs,
            // Podman's overlay is the same, but that nobody can ask what was changed in it.
            "fork" | "O" if self.is_of_host() => self.view = VolumeView::Fork { since_ns: None },
            _ if option.starts_with("idmap") => {
                return Err("numbers of users are not mapped; U gives all to the container's");
            }
            "fork" | "O" => return Err("an anonymous volume is the VM's own already"),
            // There is no SELinux in the guest, what is mounted inside stays inside, and binds are recursive.
            "z" | "Z" | "bind" | "rbind" | "private" | "rprivate" | "slave" | "rslave" => {}
            "shared" | "rshared" => return Err("what a VM mounts cannot be seen on the host"),
            _ => {
                return Err(
                    "ro, rw, exec, noexec, suid, nosuid, dev, nodev, fork, O, U, z, Z, nocopy, cache=auto|none|writeback or events=on|off is expected",
                );
            }
        }
        Ok(())
    }
}

/// The path of a place in the container: without what would make two names of one place.
pub(crate) fn absolute(target: &str) -> Result<String, &'static str> {
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
        VolumeSpec::new(VolumeSource::Path(source.to_owned()), target).unwrap()
    }

    #[test]
    fn a_volume_is_source_target_and_options() {
        assert_eq!(VolumeSpec::parse("/a:/b"), Ok(path("/a", "/b")));
        let expected = VolumeSpec { read_only: true, ..path("./a", "/b/c") };
        assert_eq!(VolumeSpec::parse("./a://b/./c/:z,ro,rprivate"), Ok(expected));
        let volume = VolumeSpec::parse("/a:/b:noexec,dev,cache=writeback").unwrap();
        assert_eq!(volume.rights, VolumeRights { exec: false, suid: false, dev: true });
        assert_eq!(volume.cache, VolumeCache::Writeback);
        for bad in [
            "a",
            "a b:/b",
            "-:/b",
            "/a:b",
            "/a:/",
            "/a:/b/../c",
            "/a:/b:x",
            "/a:/b:shared",
            "/a:/b:cache=all",
            "/a:/b:events=some",
            "/a:/b:idmap",
        ] {
            assert!(VolumeSpec::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_path_is_a_name_and_what_has_no_source_the_vms_own() {
        let named = VolumeSpec::parse("data:/b:ro,U,nocopy").unwrap();
        assert_eq!(named.source, VolumeSource::Name("data".parse().unwrap()));
        assert_eq!((named.owner, named.beginning), (VolumeOwner::Container, VolumeBeginning::AsItIs));
        assert_eq!(VolumeSpec::parse("data:/b").unwrap().beginning, VolumeBeginning::FromImage);
        assert_eq!(VolumeSpec::parse("/b").unwrap(), VolumeSpec::own("/b").unwrap());
        assert_eq!(VolumeSpec::parse_mount("type=volume,dst=/b"), Ok(MountAsk::Volume(VolumeSpec::own("/b").unwrap())));
        let mount = VolumeSpec::parse_mount("type=volume,src=data,dst=/b,ro,nocopy,U").unwrap();
        assert_eq!(mount, MountAsk::Volume(named));
        let forked = VolumeSpec::parse("/a:/b:fork").unwrap();
        assert_eq!(forked.view, VolumeView::Fork { since_ns: None });
        for bad in ["type=volume,src=/a,dst=/b", "type=bind,src=a,dst=/b", "type=volume,dst=/b,fork"] {
            assert!(VolumeSpec::parse_mount(bad).is_err(), "{bad}");
        }
        assert!(VolumeSpec::parse("/a:/b:copy").is_err());
    }

    #[test]
    fn events_are_raised_where_others_write_and_nobody_said_that_they_are_not() {
        let raises = |text: &str| VolumeSpec::parse(text).unwrap().raises_events();
        for text in ["/a:/b", "data:/b:ro", "/a:/b:events=off,events=on", "/a:/b:cache=none"] {
            assert!(raises(text), "{text}");
        }
        for text in ["/b", "/a:/b:events=off", "/a:/b:fork", "/a:/b:cache=writeback"] {
            assert!(!raises(text), "{text}");
        }
    }

    #[test]
    fn a_volume_of_an_earlier_version_is_read() {
        let text = r#"{"source":{"path":"/a"},"target":"/b"}"#;
        assert_eq!(serde_json::from_str::<VolumeSpec>(text).unwrap(), path("/a", "/b"));
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
