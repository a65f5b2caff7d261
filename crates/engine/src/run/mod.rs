//! Running a VM, from its claim on a name to its release. The process that calls [`Engine::run`] is its owner.
//!
//! ```text
//! claim ─► prepare ─► boot ─► drive ─► release
//!             ▲                 │
//!             └── lives: renew ─┘
//! ```
//! Each phase owns what exists so far; whatever fails, what exists is released and nothing is left. One machine may follow
//! another while the VM stays: [`lives`].

mod asked;
mod boot;
mod container;
mod drive;
mod errand;
mod life;
mod lives;
mod over;
mod pause;
mod prepare;
mod start;

pub(crate) use boot::Booted;
pub(crate) use container::{piece, pump_input, put};
pub(crate) use errand::Errand;
pub(crate) use prepare::{Beginning, CacheUse, Hold, Prepared, host_facts};

use crate::error::in_full;
use crate::snapshot::CaptureRequest;
use crate::snapshot::capture::Copy;
use crate::{Attachment, Engine, Error};
use fcvm_image::PullPolicy;
use fcvm_proto::message::TerminalSize;
use fcvm_spec::lifecycle::Event;
use fcvm_spec::{Phase, Removal, SnapshotId, SnapshotPolicy, VmSpec};
use fcvm_store::{Ended, FailPoint, OwnedVm, Owner, VmRecord, What};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRequest {
    /// The VM.
    pub spec: VmSpec,
    /// When to ask a registry for the image.
    pub pull: PullPolicy,
    /// Whether the ports that the image exposes are published too.
    pub publish: Publish,
    /// What its machine starts from.
    #[serde(default)]
    pub origin: Origin,
    /// What it is for.
    #[serde(default)]
    pub goal: Goal,
    /// Who is at its container when that starts.
    #[serde(default)]
    pub attendance: Attendance,
}

/// Who is at a container when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attendance {
    /// Its owner, or nobody.
    #[default]
    Owner,
    /// A client at a terminal of this size, for whom is waited.
    Client(TerminalSize),
}

/// What a run is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// The container.
    #[default]
    Run,
    /// A snapshot of it once it is well; then the run ends.
    Snapshot(CaptureRequest),
}

/// What the machine of a VM starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A kernel and the image.
    #[default]
    Image,
    /// A snapshot, in which the container may run already.
    Snapshot {
        /// Which.
        id: SnapshotId,
        /// `KEY=VALUE` for commands that are run in it from now on.
        env: Vec<String>,
        /// The process that serves it, if that is to bring the pages.
        #[serde(default)]
        server: Option<u32>,
    },
    /// A kernel and the disk that the VM has left.
    Own,
}

/// Which ports are published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// Those of the spec.
    #[default]
    Named,
    /// Also every port that the image exposes, on ports that the host chooses: `-P`.
    Exposed,
}

/// Who is told how a run goes on.
pub trait RunObserver: Send + Sync {
    /// The image is being fetched or converted.
    fn image(&self) -> &dyn fcvm_image::Progress;
    /// Clients are listened to; the container does not run yet.
    fn listening(&self) {}
    /// The container runs.
    fn started(&self, record: &VmRecord);
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// The container's exit code, or 125 where the machine did not let it end.
    pub code: u8,
    /// Why, where it was not the container's own doing.
    pub reason: Option<String>,
    /// The guest's kernel killed one of the container's processes for want of memory.
    pub oom_killed: bool,
}

impl RunOutcome {
    fn failed(error: &Error) -> Self {
        Self { code: error.exit_code(), reason: Some(in_full(error)), oom_killed: false }
    }
}

impl Engine {
    /// Runs a VM to its end.
    pub async fn run(
        &self,
        request: RunRequest,
        mut attachment: Attachment,
        observer: &dyn RunObserver,
    ) -> Result<RunOutcome, Error> {
        let mut vm = self.store().create_vm(new_record(request.spec.clone(), Phase::Starting))?;
        vm.note(What::Create);
        let outcome = self.live(&mut vm, &request, &mut attachment, observer).await;
        let released = match &outcome {
            Err(_) if vm.record().phase == Phase::Starting => vm.discard().map_err(Error::from),
            Err(error) => self.conclude_failed(vm, error),
            Ok(outcome) => self.conclude(vm, outcome),
        };
        with_left_overs(outcome, released)
    }

    fn conclude_failed(&self, vm: OwnedVm, error: &Error) -> Result<(), Error> {
        let outcome = RunOutcome::failed(error);
        vm.note(What::Died { code: outcome.code });
        self.conclude(vm, &outcome)
    }

    /// Ends the ownership of a VM whose container has run: it is to be seen afterwards, with its log and its disk.
    fn conclude(&self, mut vm: OwnedVm, outcome: &RunOutcome) -> Result<(), Error> {
        let RunOutcome { code, ref reason, oom_killed } = *outcome;
        let ended = Ended { at_ns: now_ns(), code, reason: reason.clone(), oom_killed };
        if oom_killed {
            tracing::warn!(vm = %vm.record().spec.name, code, "a process of the container was killed for want of memory");
        }
        let recorded = match vm.record().spec.removal {
            // Gone in a moment; a disk that is full must not keep it.
            Removal::Automatic => Ok(()),
            Removal::Keep => vm.update(|record| {
                advance(record, Event::Ended);
                record.monitor = None;
                record.ended = Some(ended);
            }),
        };
        self.reach(FailPoint::EndRecorded)?;
        vm.release()?;
        Ok(recorded?)
    }

    /// Begins a run of an image: from the cache if that has its kind, else cold, and then into the cache.
    async fn begin(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        observer: &dyn RunObserver,
    ) -> Result<(Booted, Option<JoinHandle<()>>), Error> {
        let mut prepared = self.prepare(vm, request, request.spec.snapshot, observer).await?;
        match std::mem::replace(&mut prepared.cache, CacheUse::None) {
            CacheUse::None => Ok((self.boot(vm, prepared).await?, None)),
            CacheUse::Fill(key, claim) => {
                let booted = self.boot(vm, prepared).await?;
                let filling = self.fill(&booted.live(vm.record()), Copy::AtOnce, (key, claim)).await;
                Ok((booted, filling))
            }
            CacheUse::From(key, snapshot) => match self.boot(vm, prepared).await {
                Ok(booted) => Ok((booted, None)),
                Err(error) => {
                    tracing::warn!(%error, "a cached snapshot did not wake up; the run goes on cold");
                    self.forget(&key, &snapshot);
                    vm.dir().give_back()?;
                    vm.update(|record| record.restored = None)?;
                    let prepared = self.prepare(vm, request, SnapshotPolicy::Never, observer).await?;
                    Ok((self.boot(vm, prepared).await?, None))
                }
            },
        }
    }
}

/// How a run ended whose VM was released so.
fn with_left_overs(outcome: Result<RunOutcome, Error>, released: Result<(), Error>) -> Result<RunOutcome, Error> {
    match (outcome, released) {
        (Ok(outcome), released) => released.map(|()| outcome),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => {
            tracing::warn!(%left, "a VM that failed was not ended in good order");
            Err(error)
        }
    }
}

fn new_record(spec: VmSpec, phase: Phase) -> VmRecord {
    VmRecord {
        spec,
        phase,
        created_ns: now_ns(),
        started_ns: None,
        known: false,
        owner: Owner::current(),
        monitor: None,
        has_disk: false,
        image_digest: None,
        command: Vec::new(),
        ports: Vec::new(),
        restored: None,
        health: None,
        restarts: 0,
        ended: None,
    }
}

/// Moves a record on; events that cannot happen in its phase change nothing.
fn advance(record: &mut VmRecord, event: Event) {
    if let Some(next) = record.phase.after(event) {
        record.phase = next;
    }
}

/// The host's time.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
