//! The fourth phase: one loop over everything that can happen to a running VM.

use super::asked::Around;
use super::boot::{Awake, Booted};
use super::container::ContainerEnd;
use super::life::{Happened, Life};
use super::lives::Lives;
use super::over::Over;
use super::{advance, now_ns};
use crate::cache::Warm;
use crate::console::Console;
use crate::snapshot::capture::Copy;
use crate::volumes::{Renewal, Volumes};
use crate::{Engine, Error, Output, health};
use fcvm_spec::lifecycle::Event;
use fcvm_store::{FailPoint, Health, HealthRecord, HealthStatus, OwnedVm, VmRecord, What};
use std::mem::take;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

impl Engine {
    /// Runs the container to its end and the machine to its power-off.
    pub(super) async fn drive(&self, vm: &mut OwnedVm, booted: Booted, lives: &mut Lives<'_>) -> Result<Over, Error> {
        let Booted { awake, ports, warm } = booted;
        let (output, console) = (lives.attachment.output.clone(), lives.control.console().clone());
        // A guest that never starts its container must not keep anybody from ending it.
        let mut life = lives.unless_stopped(self.begin_life(vm, awake, output, &console)).await?;
        self.reach(FailPoint::Started)?;
        self.note_started(vm)?;
        life.open(&ports, &lives.control);
        life.watch(vm)?;
        self.reach(FailPoint::StartRecorded)?;
        lives.announce(vm.record());
        self.reach(FailPoint::Running)?;
        let mut warming = Warming { warm, filling: None };
        let end = self.until_end(vm, &mut life, &mut Around { lives, ports: &ports }, &mut warming).await?;
        let over = self.end(vm, &mut life, end, lives).await;
        if let Some(filling) = warming.filling {
            // It has logged what went wrong.
            let _: Result<(), JoinError> = filling.await;
        }
        over
    }

    /// Lets a machine that listens start its container, or go on with the one that it has.
    pub(super) async fn begin_life(
        &self,
        vm: &mut OwnedVm,
        awake: Awake,
        output: Option<mpsc::Sender<Output>>,
        console: &Console,
    ) -> Result<Life, Error> {
        let volumes = self.attach_volumes(&vm.record().spec, awake.link.session(), awake.states.clone()).await?;
        note_answering(vm, volumes.as_ref())?;
        Life::begin(vm, (awake, volumes), output, console).await
    }

    fn note_started(&self, vm: &mut OwnedVm) -> Result<(), Error> {
        self.note_use_of_volumes(&vm.record().spec.container)?;
        vm.update(|record| {
            crate::volumes::settle::used(&mut record.spec.container);
            advance(record, Event::Started);
            record.started_ns = Some(now_ns());
            record.known = true;
        })?;
        vm.note(What::Start);
        Ok(())
    }

    /// Acts on what happens until the container is to run no more.
    async fn until_end(
        &self,
        vm: &mut OwnedVm,
        life: &mut Life,
        around: &mut Around<'_, '_>,
        warming: &mut Warming,
    ) -> Result<ContainerEnd, Error> {
        if warming.is_wanted() && vm.record().health.is_none() {
            // Nobody can tell whether it is well: that it runs is all that can be wanted.
            self.capture_wanted(&life.live(vm.record()), take(&mut warming.warm)).await?;
            return Ok(ContainerEnd::Done);
        }
        loop {
            match life.happens(around.lives).await {
                Happened::Ended(end) => return Ok(end),
                Happened::Checked(check) => {
                    if let Some(end) = self.note_check(vm, life, warming, check).await? {
                        return Ok(end);
                    }
                }
                Happened::VolumesEnded(Renewal::Useless) => {}
                Happened::VolumesEnded(Renewal::Worthwhile) => {
                    if let Err(error) = life.renew_volumes(self, &vm.record().spec).await {
                        tracing::warn!(%error, "the volumes are served no more");
                    }
                }
                Happened::Pressed(power, stream) => self.press(power, stream, vm, life).await?,
                Happened::Asked(ask) => self.act_on(ask, vm, life, around).await?,
            }
        }
    }

    /// Takes in what was found of the container's health. What it returns was all that the run was for.
    async fn note_check(
        &self,
        vm: &mut OwnedVm,
        life: &Life,
        warming: &mut Warming,
        check: HealthRecord,
    ) -> Result<Option<ContainerEnd>, Error> {
        let health = judge_health(vm.record(), check);
        if health.status == HealthStatus::Unhealthy && warming.is_wanted() {
            let said = health.log.last().map(|check| check.output.trim().to_owned()).unwrap_or_default();
            return Err(Error::NotWell { said });
        }
        if health.status == HealthStatus::Healthy {
            match take(&mut warming.warm) {
                Warm::Unused => {}
                Warm::Cached(key, claim) => {
                    warming.filling = self.fill(&life.live(vm.record()), Copy::Ahead, (key, claim)).await;
                }
                wanted @ Warm::Wanted(..) => {
                    self.capture_wanted(&life.live(vm.record()), wanted).await?;
                    return Ok(Some(ContainerEnd::Done));
                }
            }
        }
        // Said only now: what is called healthy does not stand still.
        let status = health.status;
        let before = vm.record().health.as_ref().map(|health| health.status);
        vm.update(|record| record.health = Some(health))?;
        if before != Some(status) {
            vm.note(What::Health { status });
        }
        Ok(None)
    }
}

/// What becomes of a machine once its container is well, and what it has become.
struct Warming {
    warm: Warm,
    filling: Option<JoinHandle<()>>,
}

impl Warming {
    fn is_wanted(&self) -> bool {
        matches!(self.warm, Warm::Wanted(..))
    }
}

/// Adds to a restored machine's receipt that its volumes answer.
fn note_answering(vm: &mut OwnedVm, volumes: Option<&Volumes>) -> Result<(), Error> {
    let Some(volumes) = volumes else { return Ok(()) };
    if vm.record().restored.is_none() {
        return Ok(());
    }
    Ok(vm.update(|record| {
        let receipt = record.restored.as_mut().and_then(|restored| restored.receipt.as_mut());
        receipt.into_iter().for_each(|receipt| receipt.volumes = volumes.count());
    })?)
}

/// What is said of a container after one more check.
fn judge_health(record: &VmRecord, check: HealthRecord) -> Health {
    let up_ns = check.end_ns.saturating_sub(record.started_ns.unwrap_or(check.end_ns));
    let up = Duration::from_nanos(u64::try_from(up_ns).unwrap_or(0));
    health::after(&record.health.clone().unwrap_or_default(), check, &record.spec.health, up)
}
