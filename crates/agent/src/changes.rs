//! What the container has written, told from the upper layer of its overlay and the image below it.

use crate::{place, scratch, world};
use anyhow::{Context, Result};
use fcvm_link::{Sender, Stream, StreamError};
use fcvm_proto::usage::{Change, Changes, FileChange};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of paths in one message: as JSON they are six times as long at worst, and still fit a frame.
const BYTES: usize = 8 << 10;
/// The most changes that are told.
const MOST: usize = 1 << 20;
const OPAQUE: &str = "trusted.overlay.opaque";

/// A layer and what it lies on.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    upper: PathBuf,
    lower: PathBuf,
}

impl Layer {
    /// What the container has written over its image.
    pub(crate) fn of_container() -> Self {
        let (upper, lower) = (Path::new(scratch::PLACE).join("upper"), Path::new(world::DIR).join("image"));
        Self { upper, lower }
    }

    /// What was written to a view of a volume. Below it is what the guest remembers of that, whatever the host has by now.
    pub(crate) fn of_view(number: u32) -> Self {
        Self { upper: place::upper(number), lower: place::lower(number) }
    }
}

/// Answers with all changes.
pub(crate) async fn answer(layer: Layer, stream: Stream) {
    let (sender, mut receiver) = stream.split();
    let found = tokio::task::spawn_blocking(move || find(&layer)).await.context("the thread died");
    let sent = match found.flatten() {
        Ok(changes) => tell(&sender, changes).await,
        Err(error) => sender.message(&Changes { changes: Vec::new(), failure: Some(format!("{error:#}")) }).await,
    };
    if sent.is_ok() {
        sender.finish();
        let _ = receiver.recv().await;
    }
}

async fn tell(sender: &Sender, changes: Vec<FileChange>) -> Result<(), StreamError> {
    let (mut part, mut bytes) = (Changes::default(), 0);
    for change in changes {
        bytes += change.path.len();
        part.changes.push(change);
        if bytes >= BYTES || part.changes.len() == 256 {
            sender.message(&std::mem::take(&mut part)).await?;
            bytes = 0;
        }
    }
    sender.message(&part).await
}

/// Compares a layer with what it lies on, in no particular order.
fn find(Layer { upper, lower }: &Layer) -> Result<Vec<FileChange>> {
    let mut changes = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        let (above, below) = (upper.join(&dir), lower.join(&dir));
        let mut names = HashSet::new();
        for entry in fs::read_dir(&above).with_context(|| format!("read {}", above.display()))? {
            let entry = entry.context("read the layer")?;
            let Ok(here) = entry.metadata() else { continue };
            names.insert(entry.file_name());
            let path = dir.join(entry.file_name());
            let there = fs::symlink_metadata(lower.join(&path)).ok();
            changes.extend(change(&here, there.as_ref()).map(|change| told(&path, change)));
            if here.is_dir() {
                pending.push(path);
            }
        }
        changes.extend(hidden(&above, &below, &names).map(|name| told(&dir.join(name), Change::Deleted)));
        anyhow::ensure!(changes.len() <= MOST, "the container has changed more than {MOST} files");
    }
    Ok(changes)
}

fn told(path: &Path, change: Change) -> FileChange {
    FileChange { path: format!("/{}", path.to_string_lossy()), change }
}

fn change(here: &Metadata, there: Option<&Metadata>) -> Option<Change> {
    let is_whiteout = here.file_type().is_char_device() && here.rdev() == 0;
    match there {
        Some(_) if is_whiteout => Some(Change::Deleted),
        None if is_whiteout => None,
        None => Some(Change::Added),
        Some(there) => {
            let rights = |metadata: &Metadata| (metadata.mode(), metadata.uid(), metadata.gid());
            let same = here.is_dir() && there.is_dir() && rights(here) == rights(there);
            (!same).then_some(Change::Changed)
        }
    }
}

/// What the image has in a directory that hides it, and that is not there anew.
fn hidden(above: &Path, below: &Path, names: &HashSet<OsString>) -> impl Iterator<Item = OsString> {
    let mut value = [0; 1];
    let opaque = rustix::fs::lgetxattr(above, OPAQUE, &mut value).is_ok_and(|_| value == *b"y");
    let entries = opaque.then(|| fs::read_dir(below).ok()).flatten();
    let entries = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    entries.filter(|name| !names.contains(name)).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_layer_is_told_from_its_image() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, image) = (dir.path().join("upper"), dir.path().join("image"));
        for place in ["upper/etc", "upper/var", "image/etc", "image/var", "upper/new"] {
            fs::create_dir_all(dir.path().join(place)).unwrap();
        }
        fs::write(image.join("etc/passwd"), "x").unwrap();
        for file in ["etc/passwd", "etc/added", "new/file"] {
            fs::write(upper.join(file), "y").unwrap();
        }
        fs::set_permissions(upper.join("var"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut found = find(&Layer { upper, lower: image }).unwrap();
        found.sort();
        let found: Vec<_> = found.iter().map(|found| (found.path.as_str(), found.change)).collect();
        let expected = [
            ("/etc/added", Change::Added),
            ("/etc/passwd", Change::Changed),
            ("/new", Change::Added),
            ("/new/file", Change::Added),
            ("/var", Change::Changed),
        ];
        assert_eq!(found, expected);
    }
}
