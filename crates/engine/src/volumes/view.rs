//! What a VM has written to its view of a volume (`fork`): told, and applied to the directory that it is a view of.
//!
//! Applying has three sides: what the guest has now, what the host has now, and which files of the host were touched since
//! the view was made. Of the third the kernel keeps count: a file's change time cannot be set. What both have touched is a
//! conflict, unless both made the same of it, and with one conflict nothing is applied.

use super::merge::{Base, Merging};
use crate::changes::asked;
use crate::control::Command;
use crate::copy::VmPath;
use crate::ops::connect;
use crate::{Engine, Error};
use fcvm_image::changes::ChangedFile;
use fcvm_spec::VolumeView;
use fcvm_store::{VmDir, file};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

pub use super::merge::Conflict;

/// What came of applying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The host has it all; these files of it are new, changed or gone, by their paths in the volume.
    Whole(Vec<ChangedFile>),
    /// Nothing was applied.
    Not(Vec<Conflict>),
}

/// A view of a VM.
#[derive(Debug)]
struct View {
    vm: VmDir,
    number: u32,
    /// The directory that it is a view of.
    source: PathBuf,
    since_ns: i64,
}

impl View {
    /// What was applied of it already: the change times that this gave to files, by their paths in the volume.
    fn applied(&self) -> PathBuf {
        self.vm.path().join(format!("applied-{}.json", self.number))
    }
}

impl Engine {
    /// Lists what a VM has added, changed and deleted in a view, by the paths in the volume.
    pub async fn view_changes(&self, at: &VmPath) -> Result<Vec<ChangedFile>, Error> {
        let view = self.view(at)?;
        let mut found = self.changes_of(&view, at).await?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Applies what a VM has written to a view.
    pub async fn apply_view(&self, at: &VmPath) -> Result<Applied, Error> {
        let view = self.view(at)?;
        let failed = |what| {
            let path = view.source.clone();
            move |source| Error::View { what, path, source }
        };
        let lock = file::open_lock(&view.vm.path().join("apply.lock"))?;
        let _alone = blocking(move || lock.lock().map(|()| lock)).await.map_err(failed("wait for another apply to"))?;
        let staged = view.vm.path().join("apply");
        file::remove_tree(&staged)?;
        std::fs::create_dir(&staged).map_err(failed("make room for what is applied to"))?;
        let applied = self.apply_staged(&view, at, &staged).await;
        file::remove_tree(&staged)?;
        applied
    }

    async fn apply_staged(&self, view: &View, at: &VmPath, staged: &Path) -> Result<Applied, Error> {
        let found = self.changes_of(view, at).await?;
        self.fetch_view(&at.vm, view.number, staged).await?;
        let known = std::fs::read(view.applied()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let applied: BTreeMap<PathBuf, i64> = known.unwrap_or_default();
        let base = Base { since_ns: view.since_ns, applied };
        let (source, staged) = (view.source.clone(), staged.to_owned());
        let merging = move || Merging::begin(&source, &staged, base)?.merge(&found);
        let merged = blocking(merging).await.map_err(|source| {
            let path = view.source.clone();
            Error::View { what: "apply what was changed to", path, source }
        })?;
        match merged {
            Err(conflicts) => Ok(Applied::Not(conflicts)),
            Ok(merged) => {
                let text = serde_json::to_vec(&merged.applied).expect("paths of a guest are text");
                file::write_atomic(&view.applied(), &text, 0o600)?;
                Ok(Applied::Whole(merged.changes))
            }
        }
    }

    fn view(&self, at: &VmPath) -> Result<View, Error> {
        let vm = self.store().find_vm(&at.vm)?;
        let record = vm.record()?;
        let wanted = at.path.trim_end_matches('/');
        let volumes = record.spec.container.volumes.iter().enumerate();
        for (number, volume) in volumes.filter(|(_, volume)| volume.target == wanted) {
            if let (VolumeView::Fork { since_ns }, Some(source)) = (volume.view, self.host_path(volume)?) {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                return Ok(View { vm, number, source, since_ns: since_ns.unwrap_or(record.created_ns) });
            }
        }
        Err(Error::NoView { vm: at.vm.clone(), path: at.path.clone() })
    }

    async fn changes_of(&self, view: &View, at: &VmPath) -> Result<Vec<ChangedFile>, Error> {
        let client = connect(&view.vm, &at.vm).await?;
        asked(&client, &Command::ViewChanges { number: view.number }).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    spawn_blocking(work).await.expect("looking at files does not panic")
}
