//! Running a VM, from its claim on a name to its release. The process that calls [`Engine::run`] is its owner.
//!
//! ```text
//! claim ─► prepare ─► boot ─► drive ─► release
//! ```
//! Each phase owns what exists so far; whatever fails, what exists is released and nothing is left.

mod asked;
mod boot;
mod container;
mod drive;
mod prepare;

pub(crate) use boot::Booted;
pub(crate) use container::{piece, pump_input};
pub(crate) use prepare::{Beginning, CacheUse, Hold, Prepared, host_facts};

use crate::control::{Ask, CaptureAnswer, Control};
use crate::error::in_full;
use crate::snapshot::CaptureRequest;
use crate::snapshot::capture::Copy;
use crate::{Attachment, Engine, Error};
use fcvm_image::PullPolicy;
use fcvm_proto::message::Done;
use fcvm_spec::lifecycle::Event;
use fcvm_spec::{Phase, Removal, Signal, SnapshotId, SnapshotPolicy, VmSpec};
use fcvm_store::{Ended, FailPoint, OwnedVm, Owner, VmRecord};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
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
        let mut vm = self.store().create_vm(new_record(request.spec.clone()))?;
        let outcome = self.run_claimed(&mut vm, &request, &mut attachment, observer).await;
        let released = match &outcome {
            Err(_) if vm.record().phase == Phase::Starting => vm.discard().map_err(Error::from),
            Err(error) => self.conclude(vm, &RunOutcome::failed(error)),
            Ok(outcome) => self.conclude(vm, outcome),
        };
        match (outcome, released) {
            (Ok(outcome), released) => released.map(|()| outcome),
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(left)) => {
                tracing::warn!(%left, "a VM that failed was not ended in good order");
                Err(error)
            }
        }
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

    async fn run_claimed(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        attachment: &mut Attachment,
        observer: &dyn RunObserver,
    ) -> Result<RunOutcome, Error> {
        let failed = |source| Error::Control { vm: request.spec.name.to_string(), source };
        let mut control = Control::start(vm.dir().path()).map_err(failed)?;
        self.reach(FailPoint::Control)?;
        let (booted, filling) = {
            let phases = async {
                match &request.origin {
                    Origin::Image => self.begin(vm, request, observer).await,
                    Origin::Snapshot { id, env, server } => {
                        let prepared = self.prepare_clone(vm, request, (id, *server), env).await?;
                        Ok((self.boot(vm, prepared).await?, None))
                    }
                }
            };
            tokio::select! {
                begun = phases => begun?,
                error = interruption(&mut attachment.signals, &mut control) => return Err(error),
            }
        };
        let outcome = self.drive(vm, booted, attachment, control, observer).await;
        if let Some(filling) = filling {
            // It has logged what went wrong.
            let _ = filling.await;
        }
        outcome
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

/// Waits for what ends a VM that does not run yet.
async fn interruption(signals: &mut mpsc::Receiver<Signal>, control: &mut Control) -> Error {
    loop {
        let signal = tokio::select! {
            Some(signal) = signals.recv() => signal,
            asked = control.ask() => match asked {
                Ask::Stop(_) => return Error::Stopped,
                Ask::Capture(_, answer) => {
                    let _ = answer.send(CaptureAnswer::Failed("its container does not run yet".to_owned()));
                    continue;
                }
                Ask::Rewind(_, answer) | Ask::Tune(answer) => {
                    let _ = answer.send(Done::Failed("its container does not run yet".to_owned()));
                    continue;
                }
                // The asker is told that there is no answer.
                Ask::Check(_) => continue,
            },
        };
        // Others (SIGWINCH, SIGUSR1…) are for a container that is not there yet.
        if ENDING.contains(&signal.number()) {
            return Error::Interrupted(signal);
        }
    }
}

/// SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const ENDING: [i32; 4] = [1, 2, 3, 15];

fn new_record(spec: VmSpec) -> VmRecord {
    VmRecord {
        spec,
        phase: Phase::Starting,
        created_ns: now_ns(),
        started_ns: None,
        owner: Owner::current(),
        monitor: None,
        image_digest: None,
        command: Vec::new(),
        ports: Vec::new(),
        restored: None,
        health: None,
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
