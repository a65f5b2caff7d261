//! A snapshot of a container that is well, made ahead of the runs that start from it.

use super::{CaptureRequest, Quiesce};
use crate::cache::CacheKey;
use crate::run::{Goal, Origin, RunObserver, RunRequest};
use crate::volumes::settle::add_those_of;
use crate::{Attachment, Engine, Error, health};
use fcvm_spec::{Removal, SnapshotId, SnapshotPolicy, Stdin, VmName, VmSpec};
use fcvm_store::snapshot::{CacheClaim, Holds, Kind};
use std::collections::BTreeMap;

/// The label by which a tagged snapshot tells what it was prepared for.
const KEY_LABEL: &str = "fcvm.prepared";

/// A snapshot that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedSnapshot {
    /// The snapshot.
    pub id: SnapshotId,
    /// Whether it was there before.
    pub found: Found,
    /// The kind of runs that it is for.
    pub key: String,
    /// The kind of machines that it began as.
    pub launch_key: String,
    /// The image's digest.
    pub image: String,
}

/// Whether something was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was.
    Before,
    /// It was made.
    Now,
}

/// How a snapshot is prepared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preparation {
    /// The tag that it gets; without one it is the cache's.
    pub tag: Option<VmName>,
    /// Whether one that is there is made anew.
    pub force: bool,
}

impl Engine {
    /// Makes sure that there is a snapshot of a container that is well. Nothing runs afterwards.
    pub async fn prepare_snapshot(
        &self,
        mut request: RunRequest,
        how: &Preparation,
        attachment: Attachment,
        observer: &dyn RunObserver,
    ) -> Result<PreparedSnapshot, Error> {
        let spec = &mut request.spec;
        (spec.removal, spec.stdin, spec.snapshot) = (Removal::Automatic, Stdin::Null, SnapshotPolicy::Allowed);
        let image = self.ensure_image(spec, &self.pull_options(request.pull), observer.image())?;
        let set = self.boot_set(spec)?;
        let launch = CacheKey::of(spec, &image.digest, &set, &self.choose(spec)?);
        let mut resolved = VmSpec { health: health::resolve(&spec.health, image.health.as_ref()), ..spec.clone() };
        add_those_of(&image.config, &mut resolved.container);
        let key = launch.warm(&resolved);
        let prepared = |id, found| PreparedSnapshot {
            id,
            found,
            key: key.as_str().to_owned(),
            launch_key: launch.as_str().to_owned(),
            image: image.digest.clone(),
        };
        if let Some(id) = self.prepared(&key, how)? {
            if !how.force {
                return Ok(prepared(id, Found::Before));
            }
            if how.tag.is_none() {
                self.store().forget_cached(key.as_str(), &id)?;
            }
        }
        let id = crate::cache::snapshot_id();
        let (kind, labels) = match &how.tag {
            Some(_) => (Kind::User, BTreeMap::from([(KEY_LABEL.to_owned(), key.as_str().to_owned())])),
            None => (Kind::Cache { key: key.as_str().to_owned() }, BTreeMap::new()),
        };
        request.origin = Origin::Image;
        let (quiesce, holds) = (Quiesce::Yes, Holds::Machine);
        request.goal = Goal::Snapshot(CaptureRequest { id: id.clone(), kind, labels, quiesce, holds });
        let outcome = self.run(request, attachment, observer).await?;
        if self.store().snapshot(&id).is_err() {
            return Err(Error::EndedFirst { code: outcome.code });
        }
        if let Some(tag) = &how.tag {
            self.store().tag_snapshot(tag, &id)?;
        }
        Ok(prepared(id, Found::Now))
    }

    /// The snapshot that is there already.
    fn prepared(&self, key: &CacheKey, how: &Preparation) -> Result<Option<SnapshotId>, Error> {
        let Some(tag) = &how.tag else {
            return Ok(self.store().cached(key.as_str())?.map(|snapshot| snapshot.id().clone()));
        };
        let manifest = match self.store().find_snapshot(tag.as_str()) {
            Ok(snapshot) => snapshot.manifest()?,
            Err(fcvm_store::Error::NoSuchSnapshot(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_this = manifest.labels.get(KEY_LABEL).is_some_and(|known| known == key.as_str());
        Ok(is_this.then_some(manifest.id))
    }

    /// The right to fill the cache with what is wanted, if it is for the cache.
    pub(crate) fn claim_wanted(&self, wanted: &CaptureRequest) -> Result<Option<CacheClaim>, Error> {
        let Kind::Cache { key } = &wanted.kind else { return Ok(None) };
        self.store().claim_cache(key)?.ok_or(Error::BeingPrepared).map(Some)
    }
}
