//! What is mounted in a container: `--tmpfs`, `--volume`, `--mount`.

use crate::error::Failure;
use fcvm_engine::snapshot::Moved;
use fcvm_spec::{DiskSpec, MountAsk, Tmpfs, VolumeSource, VolumeSpec};
use std::collections::BTreeSet;

/// All of it, no two at one place.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) tmpfs: Vec<Tmpfs>,
    pub(super) volumes: Vec<VolumeSpec>,
}

impl Mounts {
    /// Checks what was typed. Paths of the host become absolute here, where the directory is known.
    pub(super) fn of(
        tmpfs: &[String],
        volumes: &[String],
        mounts: &[String],
        disks: &[DiskSpec],
    ) -> Result<Self, Failure> {
        let mut all = Self::default();
        for text in tmpfs {
            all.tmpfs.push(Tmpfs::parse(text)?);
        }
        for text in volumes {
            all.volumes.push(settled(VolumeSpec::parse(text)?)?);
        }
        for text in mounts {
            match VolumeSpec::parse_mount(text)? {
                MountAsk::Volume(volume) => all.volumes.push(settled(volume)?),
                MountAsk::Tmpfs(tmpfs) => all.tmpfs.push(tmpfs),
            }
        }
        let mut places = BTreeSet::new();
        let taken = all.tmpfs.iter().map(|tmpfs| &tmpfs.path).chain(all.volumes.iter().map(|volume| &volume.target));
        match taken.chain(disks.iter().map(|disk| &disk.target)).find(|place| !places.insert(*place)) {
            // Podman's words.
            Some(twice) => Err(Failure::new(format!("{twice}: duplicate mount destination"))),
            None => Ok(all),
        }
    }
}

fn settled(volume: VolumeSpec) -> Result<VolumeSpec, Failure> {
    Ok(VolumeSpec { source: absolute(volume.source)?, ..volume })
}

fn absolute(source: VolumeSource) -> Result<VolumeSource, Failure> {
    let VolumeSource::Path(path) = source else { return Ok(source) };
    let absolute = std::path::absolute(&path).ok().and_then(|path| path.into_os_string().into_string().ok());
    absolute.map(VolumeSource::Path).ok_or_else(|| Failure::new(format!("the path {path:?} has no absolute form")))
}

/// Parses `--map-from OLD=NEW`.
pub(crate) fn map_from(text: &str) -> Result<Moved, Failure> {
    let wrong = || Failure::new(format!("invalid --map-from {text:?}: OLD=NEW is expected, for example /src=/new/src"));
    let (from, to) = text.split_once('=').ok_or_else(wrong)?;
    Ok(Moved { from: absolute(VolumeSource::parse(from)?)?, to: absolute(VolumeSource::parse(to)?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mounts_at_one_place_are_refused() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mounts = |tmpfs: &[&str], volumes: &[&str]| Mounts::of(&texts(tmpfs), &texts(volumes), &[], &[]);
        assert_eq!(mounts(&["/a"], &["/b:/b", "/b:/c"]).unwrap().volumes.len(), 2);
        assert!(mounts(&["/a"], &["/b:/a"]).is_err());
        assert!(mounts(&[], &["/b:/a", "/c:/a/"]).is_err());
        let disk = DiskSpec::parse("x:/a").unwrap();
        assert!(Mounts::of(&[], &texts(&["/b:/a"]), &[], &[disk]).is_err());
        let relative = mounts(&[], &["./x:/a"]).unwrap().volumes.remove(0);
        assert!(matches!(relative.source, VolumeSource::Path(path) if path.starts_with('/') && path.ends_with("/x")));
    }
}
