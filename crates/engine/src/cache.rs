//! The image cache: the first run of a kind leaves a snapshot of its machine just before the container starts, and later
//! runs of that kind start from it.
//!
//! What makes two runs of a kind is [`LaunchShape`]: all that shapes the machine before there is a container. The
//! container itself, its command, environment and limits, is told to the guest when it wakes up, so it is not in the key.

use crate::run::{Awake, Booted, now_ns};
use crate::snapshot::capture::{Copy, Keep, Live};
use crate::snapshot::{CaptureRequest, Quiesce};
use crate::{Engine, Error};
use fcvm_artifacts::Set;
use fcvm_spec::{NetworkMode, SnapshotId, VmSpec};
use fcvm_store::snapshot::{CacheClaim, ContainerState, Kind, SnapshotDir};
use fcvm_store::{OwnedVm, VmRecord};
use fcvm_vmm::Choice;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use tokio::task::JoinHandle;

/// Raised whenever a guest is made differently from the same shape.
const GENERATION: u32 = 1;

/// All that shapes a machine before its container starts.
#[derive(Debug, Serialize)]
struct LaunchShape<'a> {
    generation: u32,
    image: &'a str,
    /// By the names of their files, which are digests of what they hold.
    kernel: Vec<String>,
    system: Vec<String>,
    initramfs: String,
    cpus: u8,
    memory: u32,
    network: &'a NetworkMode,
    backend: String,
    accel: String,
    processor: String,
}

/// The name of a kind of runs: 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheKey(String);

/// What the cache has for a run.
#[derive(Debug)]
pub(crate) enum Cache {
    /// The snapshot to start from.
    Hit(CacheKey, SnapshotDir),
    /// Nothing; this run is to make it.
    Miss(CacheKey, CacheClaim),
    /// Nothing, and this run is not to make it.
    Off,
}

impl CacheKey {
    /// Computes the kind of a run.
    pub(crate) fn of(spec: &VmSpec, image: &str, set: &Set, choice: &Choice) -> Self {
        let shape = LaunchShape {
            generation: GENERATION,
            image,
            kernel: names(&set.kernel),
            system: names(&set.system),
            initramfs: names(&set.initramfs).pop().unwrap_or_default(),
            cpus: spec.machine.cpus,
            memory: spec.machine.memory.0,
            network: &spec.network,
            backend: choice.backend.to_string(),
            accel: choice.accel.to_string(),
            processor: choice.processor(),
        };
        let text = serde_json::to_vec(&shape).expect("a shape is plain data");
        Self(Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The last two names of a path: of a file, and of the directory that is called by its digest.
fn names(path: &Path) -> Vec<String> {
    let names = path.iter().rev().take(2).map(|name| name.to_string_lossy().into_owned());
    names.collect::<Vec<_>>().into_iter().rev().collect()
}

impl Engine {
    /// Looks up what there is for a run. A cache that cannot be read is as none.
    pub(crate) fn look_up(&self, key: CacheKey) -> Cache {
        match self.store().cached(&key.0) {
            Ok(Some(snapshot)) => return Cache::Hit(key, snapshot),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the cache cannot be read"),
        }
        match self.store().claim_cache(&key.0) {
            Ok(Some(claim)) => Cache::Miss(key, claim),
            Ok(None) | Err(_) => Cache::Off,
        }
    }

    /// Removes a cached snapshot that turned out unusable, unless it was replaced in the meantime.
    pub(crate) fn forget(&self, key: &CacheKey, snapshot: &SnapshotId) {
        if let Err(error) = self.store().forget_cached(&key.0, snapshot) {
            tracing::warn!(%error, "an unusable cached snapshot was not removed");
        }
    }

    /// Takes a machine whose container has not started into the cache. That it fails is no reason not to run. What is
    /// returned ends when all is written.
    pub(crate) async fn fill(
        &self,
        vm: &OwnedVm,
        booted: &Booted,
        (key, claim): (CacheKey, CacheClaim),
    ) -> Option<JoinHandle<()>> {
        let taken = self.take_for_cache(vm.record(), booted, &key).await;
        let taken = taken.inspect_err(|error| tracing::warn!(%error, "this run was not taken into the cache")).ok()?;
        let (store, room) = (self.store().clone(), self.settings().cache_room);
        Some(tokio::task::spawn_blocking(move || {
            let written = taken.write(Keep::Cheaply).and_then(|captured| {
                claim.fill(&captured.id)?;
                Ok(store.evict_caches(room)?)
            });
            if let Err(error) = written {
                tracing::warn!(%error, "this run was not taken into the cache");
            }
        }))
    }

    async fn take_for_cache(
        &self,
        record: &VmRecord,
        booted: &Booted,
        key: &CacheKey,
    ) -> Result<crate::snapshot::capture::Taken, Error> {
        let Awake { machine, link, files, .. } = &booted.awake;
        let live = Live { record, machine, link, files, container: ContainerState::Unstarted };
        let request = CaptureRequest {
            id: snapshot_id(),
            kind: Kind::Cache { key: key.0.clone() },
            labels: BTreeMap::new(),
            quiesce: Quiesce::No,
        };
        self.take(&live, request, Copy::AtOnce).await
    }
}

fn snapshot_id() -> SnapshotId {
    let mut random = crate::run::host_facts().entropy;
    // Two in one moment differ even if the pool were broken.
    for (byte, time) in random.iter_mut().zip(now_ns().to_le_bytes()) {
        *byte ^= time;
    }
    SnapshotId::from_random(random)
}

#[cfg(test)]
mod tests;
