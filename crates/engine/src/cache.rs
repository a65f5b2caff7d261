//! The image cache: the first run of a kind leaves a snapshot of its machine just before the container starts, and later
//! runs of that kind start from it.
//!
//! What makes two runs of a kind is [`LaunchShape`]: all that shapes the machine before there is a container. The
//! container itself, its command, environment and limits, is told to the guest when it wakes up, so it is not in the key.

use crate::run::now_ns;
use crate::snapshot::capture::{Copy, Keep, Live};
use crate::snapshot::{CaptureRequest, Quiesce};
use crate::{Engine, Error};
use fcvm_artifacts::Set;
use fcvm_spec::{ContainerSpec, HealthSpec, NetworkMode, RootfsSize, SnapshotId, VmSpec};
use fcvm_store::snapshot::{CacheClaim, Holds, Kind, SnapshotDir};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    rootfs_size: Option<RootfsSize>,
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

impl<'a> LaunchShape<'a> {
    fn of(spec: &'a VmSpec, image: &'a str, set: &Set, choice: &Choice) -> Self {
        Self {
            generation: GENERATION,
            image,
            kernel: names(&set.kernel),
            system: names(&set.system),
            initramfs: names(&set.initramfs).pop().unwrap_or_default(),
            cpus: spec.machine.cpus,
            memory: spec.machine.memory.0,
            rootfs_size: spec.rootfs_size,
            network: &spec.network,
            backend: choice.backend.to_string(),
            accel: choice.accel.to_string(),
            processor: choice.processor(),
        }
    }
}

/// All that shapes a machine until its container is well for the first time. Names, labels, ports of the host and what
/// only matters at the end are not in it.
#[derive(Debug, Serialize)]
struct WarmShape<'a> {
    launch: &'a str,
    container: ContainerSpec,
    health: &'a HealthSpec,
}

/// What becomes of a machine whose container is well for the first time.
#[derive(Debug, Default)]
pub(crate) enum Warm {
    /// Nothing.
    #[default]
    Unused,
    /// Later runs of this kind start from it.
    Cached(CacheKey, CacheClaim),
    /// It was all that was wanted: it is captured, and the run ends.
    Wanted(CaptureRequest, Option<CacheClaim>),
}

/// Whether a run makes what the cache does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Making {
    Allowed,
    No,
}

impl CacheKey {
    /// Computes the kind of a run.
    pub(crate) fn of(spec: &VmSpec, image: &str, set: &Set, choice: &Choice) -> Self {
        Self::digest(&LaunchShape::of(spec, image, set, choice))
    }

    /// Computes the kind of a run whose container has become well.
    pub(crate) fn warm(&self, spec: &VmSpec) -> Self {
        let container = ContainerSpec {
            hostname: None,
            labels: BTreeMap::new(),
            stop_signal: None,
            stop_timeout: None,
            log_max_size: None,
            typed: Vec::new(),
            ..spec.container.clone()
        };
        Self::digest(&WarmShape { launch: &self.0, container, health: &spec.health })
    }

    /// The name in `caches`.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn digest(shape: &impl Serialize) -> Self {
        let text = serde_json::to_vec(shape).expect("a shape is plain data");
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
    pub(crate) fn look_up(&self, key: CacheKey, making: Making) -> Cache {
        match self.store().cached(&key.0) {
            Ok(Some(snapshot)) => return Cache::Hit(key, snapshot),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the cache cannot be read"),
        }
        if making == Making::No {
            return Cache::Off;
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

    /// Takes a machine into the cache. That it fails is no reason not to run. What is returned ends when all is written.
    pub(crate) async fn fill(
        &self,
        live: &Live<'_>,
        when: Copy,
        (key, claim): (CacheKey, CacheClaim),
    ) -> Option<JoinHandle<()>> {
        let kind = Kind::Cache { key: key.0 };
        let (labels, quiesce, holds) = (BTreeMap::new(), Quiesce::No, Holds::Machine);
        let request = CaptureRequest { id: snapshot_id(), kind, labels, quiesce, holds };
        let taken = self.take(live, request, when).await;
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

    /// Captures a machine that was wanted for nothing else.
    pub(crate) async fn capture_wanted(&self, live: &Live<'_>, wanted: Warm) -> Result<(), Error> {
        let Warm::Wanted(request, claim) = wanted else { return Ok(()) };
        let captured = self.capture(live, request).await?;
        if let Some(claim) = claim {
            claim.fill(&captured.id)?;
            self.store().evict_caches(self.settings().cache_room)?;
        }
        Ok(())
    }
}

pub(crate) fn snapshot_id() -> SnapshotId {
    let mut random = crate::run::host_facts().entropy;
    // Two in one moment differ even if the pool were broken.
    for (byte, time) in random.iter_mut().zip(now_ns().to_le_bytes()) {
        *byte ^= time;
    }
    SnapshotId::from_random(random)
}

#[cfg(test)]
mod tests;
