//! `diff`: what a container has made of its image's files. A running one is asked, of one that has ended the disk is read.

use crate::control::{Client, Command, refused};
use crate::{Engine, Error};
use fcvm_image::changes::{self, Change, ChangedFile, Upper};
use fcvm_proto::usage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the machine puts into every container: nothing that the container has done.
const GIVEN: [&str; 11] = [
    "/dev",
    "/dev/init",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/resolv.conf",
    "/proc",
    "/run",
    "/run/fcvm",
    "/sys",
    "/run/.containerenv",
];
/// The most changes that a guest is heard out about.
const MOST: usize = 1 << 20;

impl Engine {
    /// Lists the files that a container has added, changed or deleted, and the directories in which it has, by their paths.
    pub async fn changes(&self, vm: &str) -> Result<Vec<ChangedFile>, Error> {
        let dir = self.store().find_vm(vm)?;
        let control = |source| Error::Control { vm: vm.to_owned(), source };
        let found = match Client::connect(&dir).await.map_err(control)? {
            Some(client) => asked(&client, &Command::Changes).await?,
            // It has never been anything but its image.
            None if !dir.scratch_disk().exists() => Vec::new(),
            None => {
                let record = dir.record()?;
                let images = self.images().store().list()?;
                let image = images.into_iter().find(|image| Some(&image.digest) == record.image_digest.as_ref());
                let image = image.ok_or_else(|| Error::ImageGone(record.spec.image.clone()))?;
                changes::between(&image.disk, &Upper::default(), &Upper::read(&dir.scratch_disk())?)?
            }
        };
        Ok(with_directories(found))
    }
}

/// Hears a guest out about changes.
pub(crate) async fn asked(client: &Client, command: &Command) -> Result<Vec<ChangedFile>, Error> {
    let (sender, mut receiver) = client.open(command)?.split();
    let mut found = Vec::new();
    while let Some(item) = receiver.recv().await.map_err(refused)? {
        let nonsense = |error| Error::Refused(format!("the guest answered nonsense: {error}"));
        let part: usage::Changes = item.message().map_err(nonsense)?;
        if let Some(reason) = part.failure {
            return Err(Error::Refused(reason));
        }
        found.extend(part.changes.into_iter().map(|change| ChangedFile {
            path: PathBuf::from(change.path),
            change: match change.change {
                usage::Change::Added => Change::Added,
                usage::Change::Changed => Change::Changed,
                usage::Change::Deleted => Change::Deleted,
            },
        }));
        if found.len() > MOST {
            return Err(Error::Refused(format!("more than {MOST} changed files")));
        }
    }
    sender.finish();
    Ok(found)
}

/// Leaves out what is not the container's doing, and adds the directories of what is, as podman does.
fn with_directories(found: Vec<ChangedFile>) -> Vec<ChangedFile> {
    let own = found.into_iter().filter(|file| !GIVEN.iter().any(|given| file.path == Path::new(given)));
    let mut all: BTreeMap<PathBuf, Change> = own.map(|file| (file.path, file.change)).collect();
    let paths: Vec<PathBuf> = all.keys().cloned().collect();
    for directory in paths.iter().flat_map(|path| path.ancestors().skip(1)) {
        if directory.parent().is_some() {
            all.entry(directory.to_owned()).or_insert(Change::Changed);
        }
    }
    all.into_iter().map(|(path, change)| ChangedFile { path, change }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_changes_are_changes_and_what_every_container_has_is_none() {
        let file = |path: &str, change| ChangedFile { path: path.into(), change };
        let found = vec![
            file("/etc/hosts", Change::Added),
            file("/run", Change::Added),
            file("/new", Change::Added),
            file("/new/x", Change::Added),
            file("/usr/lib/y", Change::Deleted),
        ];
        let expected = [
            file("/new", Change::Added),
            file("/new/x", Change::Added),
            file("/usr", Change::Changed),
            file("/usr/lib", Change::Changed),
            file("/usr/lib/y", Change::Deleted),
        ];
        assert_eq!(with_directories(found), expected);
    }
}
