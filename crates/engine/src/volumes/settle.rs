//! What the volumes of a VM are, decided before it starts: those that its image names, those that are made for it.

use crate::run::now_ns;
use crate::{Engine, Error, Remove};
use fcvm_spec::{ContainerSpec, VolumeBeginning, VolumeName, VolumeSource, VolumeSpec, VolumeView};
use fcvm_store::{VolumeDir, VolumeRecord, VolumeUse};
use fcvm_sys::stamp;
use oci_spec::image::ImageConfiguration;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Engine {
    /// Settles what the volumes of a VM are before its first start. Done again, it changes nothing.
    pub(crate) fn settle_volumes(
        &self,
        container: &mut ContainerSpec,
        image: &ImageConfiguration,
    ) -> Result<(), Error> {
        add_those_of(image, container);
        for volume in &mut container.volumes {
            if let VolumeSource::Name(name) = &volume.source {
                self.store().create_volume(name, &VolumeRecord { created_ns: now_ns(), ..VolumeRecord::default() })?;
                if self.store().volume(name)?.usage() == VolumeUse::Used {
                    volume.beginning = VolumeBeginning::AsItIs;
                }
            }
        }
        self.check_volumes(container)?;
        begin_views(container, stamp::now_ns().map_err(Error::FileClock)?);
        Ok(())
    }

    /// Looks whether what a container is to see is there, before anything is made for it.
    pub(crate) fn check_volumes(&self, container: &ContainerSpec) -> Result<(), Error> {
        let count = container.volumes.iter().filter(|volume| volume.is_of_host()).count();
        if count > fcvm_volume::VOLUMES_MAX {
            return Err(Error::ManyVolumes { count, most: fcvm_volume::VOLUMES_MAX });
        }
        for volume in &container.volumes {
            let Some(path) = self.host_path(volume)? else { continue };
            let found = fs::metadata(&path).map_err(|source| Error::NoSource { path: path.clone(), source })?;
            if volume.view != VolumeView::Shared && !found.is_dir() {
                return Err(Error::ForkOfFile { path });
            }
        }
        Ok(())
    }

    /// What a volume shows of the host, if it does.
    pub fn host_path(&self, volume: &VolumeSpec) -> Result<Option<PathBuf>, Error> {
        Ok(match &volume.source {
            VolumeSource::Path(path) => Some(Path::new(path).to_owned()),
            VolumeSource::Name(name) => Some(self.store().volume(name)?.data()),
            VolumeSource::Own => None,
        })
    }

    /// The volumes of a container have been in one from now on.
    pub(crate) fn note_use_of_volumes(&self, container: &ContainerSpec) -> Result<(), Error> {
        for volume in &container.volumes {
            if let VolumeSource::Name(name) = &volume.source {
                self.store().volume(name)?.note_use()?;
            }
        }
        Ok(())
    }

    /// Removes a volume that no VM has; by force those that have it too, after stopping them with this time-out.
    pub async fn remove_volume(&self, text: &str, force: Option<Duration>) -> Result<VolumeName, Error> {
        let name = self.store().find_volume(text).map(|volume| volume.name().clone())?;
        if let Some(timeout) = force {
            for user in self.store().users_of_volume(&name)? {
                self.remove(user.spec.id.as_str(), Remove::Force(timeout)).await?;
            }
        }
        self.store().remove_volume(&name)?;
        Ok(name)
    }

    /// The volumes that no VM has.
    pub fn unused_volumes(&self) -> Result<Vec<VolumeDir>, Error> {
        let mut unused = self.store().volumes()?;
        let mut failure = None;
        unused.retain(|volume| match self.store().users_of_volume(volume.name()) {
            Ok(users) => users.is_empty(),
            Err(error) => {
                failure = Some(error);
                false
            }
        });
        failure.map_or(Ok(unused), |error| Err(error.into()))
    }
}

/// Adds the volumes of an image at whose places nothing else is mounted.
pub(crate) fn add_those_of(image: &ImageConfiguration, container: &mut ContainerSpec) {
    let mut targets = image.config().as_ref().and_then(|config| config.volumes().clone()).unwrap_or_default();
    targets.sort();
    for volume in targets.iter().filter_map(|target| VolumeSpec::own(target)) {
        let same = |target: &str| target.trim_end_matches('/') == volume.target;
        let is_taken = container.volumes.iter().any(|other| same(&other.target))
            || container.tmpfs.iter().any(|tmpfs| same(&tmpfs.path));
        if !is_taken {
            container.volumes.push(volume);
        }
    }
}

/// Looks whether the paths of the host are there that a container is to see, before anything is made for it.
pub(crate) fn check_paths(container: &ContainerSpec) -> Result<(), Error> {
    container.volumes.iter().try_for_each(|volume| match &volume.source {
        VolumeSource::Path(path) => {
            let path = Path::new(path);
            fs::metadata(path).map(drop).map_err(|source| Error::NoSource { path: path.to_owned(), source })
        }
        VolumeSource::Name(_) | VolumeSource::Own => Ok(()),
    })
}

/// What has been in a container begins as it is from then on.
pub(crate) fn used(container: &mut ContainerSpec) {
    for volume in container.volumes.iter_mut().filter(|volume| volume.is_of_host()) {
        volume.beginning = VolumeBeginning::AsItIs;
    }
}

/// Views that were not made yet begin now, by the clock that files are stamped with.
pub(crate) fn begin_views(container: &mut ContainerSpec, now_ns: i64) {
    for volume in &mut container.volumes {
        if let VolumeView::Fork { since_ns: since @ None } = &mut volume.view {
            *since = Some(now_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_spec::Tmpfs;

    #[test]
    fn an_images_volumes_are_the_vms_own_unless_something_else_is_there() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"Volumes":{"/data/":{},"/tmp":{},"/src":{},"bad":{}}},
            "rootfs":{"type":"layers","diff_ids":[]},"history":[]}"#;
        let image: ImageConfiguration = serde_json::from_str(text).unwrap();
        let mut container = ContainerSpec {
            volumes: vec![VolumeSpec::parse("/a:/src").unwrap()],
            tmpfs: vec![Tmpfs::parse("/tmp").unwrap()],
            ..ContainerSpec::default()
        };
        for _again in 0..2 {
            add_those_of(&image, &mut container);
            let targets: Vec<_> = container.volumes.iter().map(|volume| volume.target.as_str()).collect();
            assert_eq!(targets, ["/src", "/data"]);
            assert_eq!(container.volumes[1].source, VolumeSource::Own);
        }
    }

    #[test]
    fn a_view_begins_once() {
        let volumes = vec![VolumeSpec::parse("/a:/b:fork").unwrap()];
        let mut container = ContainerSpec { volumes, ..ContainerSpec::default() };
        begin_views(&mut container, 1);
        let begun = container.clone();
        assert_eq!(begun.volumes[0].view, VolumeView::Fork { since_ns: Some(1) });
        begin_views(&mut container, 2);
        assert_eq!(container, begun);
    }
}
