//! What is not the same in two snapshots of one image.

use super::census;
use crate::Error;
use fcvm_image::changes::{self, ChangedFile, Upper};
use fcvm_proto::census::{Census, Listener, Running};
use fcvm_store::snapshot::{ContainerState, Holds, Manifest, SnapshotDir, name};
use fcvm_vmm::memory::{Differing, SavedMemory};
use serde::Serialize;
use std::collections::BTreeSet;

/// What became of one snapshot on the way to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Files of the container that its disk holds; what is in memory only, as a tmpfs, is not among them.
    pub files: Vec<ChangedFile>,
    /// Its processes; absent where a snapshot does not tell.
    pub processes: Option<Comings<Running>>,
    /// Where they listen; absent where a snapshot does not tell.
    pub listeners: Option<Comings<Listener>>,
    /// Pages of the machine's memory, of 4096 bytes; absent where a snapshot is of a disk.
    pub memory: Option<Differing>,
}

/// Who has come and who has gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comings<T> {
    /// Only in the later.
    pub come: Vec<T>,
    /// Only in the earlier.
    pub gone: Vec<T>,
}

/// Compares two snapshots. Blocks.
pub fn difference(before: &SnapshotDir, after: &SnapshotDir) -> Result<Difference, Error> {
    let _holds = (before.hold()?, after.hold()?);
    let (one, other) = (before.manifest()?, after.manifest()?);
    before.check_files(&one)?;
    after.check_files(&other)?;
    if one.image_digest != other.image_digest {
        return Err(Error::OtherImages { one: one.spec.image, other: other.spec.image });
    }
    let layers = (Upper::read(&before.path(name::SCRATCH))?, Upper::read(&after.path(name::SCRATCH))?);
    let files = changes::between(&after.path(name::IMAGE), &layers.0, &layers.1)?;
    let both_machines = one.holds == Holds::Machine && other.holds == Holds::Machine;
    let censuses = told(before, &one)?.zip(told(after, &other)?);
    let (processes, listeners) = censuses.map(|(one, other)| compare(one, other)).unzip();
    let memory = both_machines.then(|| memory(before, &one)?.differing(&memory(after, &other)?).map_err(compared));
    Ok(Difference { files, processes, listeners, memory: memory.transpose()? })
}

/// Of a container that was not started it is known that nothing ran.
fn told(snapshot: &SnapshotDir, manifest: &Manifest) -> Result<Option<Census>, Error> {
    match manifest.container {
        ContainerState::Unstarted => Ok(Some(Census::default())),
        ContainerState::Running => census::read(snapshot),
    }
}

fn compare(one: Census, other: Census) -> (Comings<Running>, Comings<Listener>) {
    (comings(one.processes, other.processes), comings(one.listeners, other.listeners))
}

fn comings<T: Ord + Clone>(one: Vec<T>, other: Vec<T>) -> Comings<T> {
    let (one, other): (BTreeSet<T>, BTreeSet<T>) = (one.into_iter().collect(), other.into_iter().collect());
    Comings { come: other.difference(&one).cloned().collect(), gone: one.difference(&other).cloned().collect() }
}

fn memory(snapshot: &SnapshotDir, manifest: &Manifest) -> Result<SavedMemory, Error> {
    let pages = manifest.files.contains_key(name::PAGES).then(|| snapshot.path(name::PAGES));
    SavedMemory::open(&snapshot.path(name::MEMORY), pages.as_deref()).map_err(compared)
}

fn compared(source: std::io::Error) -> Error {
    Error::Memory { what: "compare", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_come_and_gone_is_told_in_order() {
        let compared = comings(vec![3, 1, 2], vec![5, 2, 4]);
        assert_eq!(compared, Comings { come: vec![4, 5], gone: vec![1, 3] });
    }
}
