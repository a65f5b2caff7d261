//! What other processes ask of a running VM, done between two events of its life.

use super::life::Life;
use super::lives::Lives;
use super::{advance, now_ns};
use crate::control::{Ask, CaptureAnswer, PAUSED};
use crate::error::in_full;
use crate::link::{SOON, ask, within};
use crate::{Engine, Error, disks, metadata};
use fcvm_link::Stream;
use fcvm_net::Published;
use fcvm_proto::message::{Done, HostRequest, Power};
use fcvm_spec::lifecycle::{Asked, Event};
use fcvm_spec::{Limits, MiB, Phase, SnapshotId};
use fcvm_store::{FailPoint, OwnedVm, What};
use fcvm_vmm::Choice;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What stays when a VM's life is replaced by another.
pub(super) struct Around<'a, 'l> {
    pub(super) lives: &'a mut Lives<'l>,
    pub(super) ports: &'a Arc<Published>,
}

impl Engine {
    /// Does what was asked and answers. That an asker is gone meanwhile is nothing to fail for.
    pub(super) async fn act_on(
        &self,
        ask: Ask,
        vm: &mut OwnedVm,
        life: &mut Life,
        around: &mut Around<'_, '_>,
    ) -> Result<(), Error> {
        if vm.record().phase == Phase::Paused {
            match &ask {
                // As kill -9 finds a process that is stopped: it cannot end while it stands still.
                Ask::Stop(_) | Ask::Restart(..) => life.unpause(vm, around.lives).await?,
                Ask::Pause(_) | Ask::Unpause(_) | Ask::Rename(..) => {}
                _ => {
                    ask.refuse(PAUSED);
                    return Ok(());
                }
            }
        }
        match ask {
            Ask::Pause(answer) => tell(answer, life.pause(vm, around.lives).await),
            Ask::Unpause(answer) => tell(answer, life.unpause(vm, around.lives).await),
            Ask::Rename(name, answer) => tell(answer, vm.rename(name).map_err(Error::from)),
            Ask::Update(limits, answer) => tell(answer, update(vm, life, limits).await),
            Ask::Check(answer) => life.check(&vm.record().spec, answer),
            Ask::Stop(timeout_s) => {
                vm.update(|record| advance(record, Event::StopAsked))?;
                vm.note(What::Stop);
                life.stop(Asked::Stop, &vm.record().spec, timeout_s);
            }
            Ask::Restart(timeout_s, answer) => {
                vm.update(|record| advance(record, Event::StopAsked))?;
                around.lives.restarters.push(answer);
                life.stop(Asked::Restart, &vm.record().spec, timeout_s);
            }
            Ask::Capture(request, answer) => {
                let captured = self.capture(&life.live(vm.record()), request).await;
                if let Ok(captured) = &captured {
                    vm.note(What::Snapshot { snapshot: captured.id.clone() });
                }
                let failed = |error| CaptureAnswer::Failed(in_full(&error));
                let _asker_is_gone = answer.send(captured.map_or_else(failed, CaptureAnswer::Captured));
            }
            Ask::Tune(answer) => tell(answer, self.tune_snapshot(&life.live(vm.record()))),
            Ask::SetMetadata(values, answer) => tell(answer, set_metadata(values, vm, life)),
            Ask::Rewind(id, answer) => {
                let rewound = self.rewind_life(vm, life, around, &id).await;
                if rewound.is_ok() {
                    vm.note(What::Rewind { snapshot: id });
                    life.open(around.ports, &around.lives.control);
                    life.watch(vm)?;
                }
                tell(answer, rewound);
            }
        }
        Ok(())
    }

    /// Does what somebody in the guest system wants as if it had been asked from outside: the container ends in good order.
    pub(super) async fn press(
        &self,
        power: Power,
        stream: Stream,
        vm: &mut OwnedVm,
        life: &mut Life,
    ) -> Result<(), Error> {
        let asked = match power {
            Power::Off => Asked::Stop,
            Power::Restart => Asked::Restart,
        };
        vm.update(|record| advance(record, Event::StopAsked))?;
        let (sender, _receiver) = stream.split();
        let _the_guest_is_gone = sender.message(&Done::Ok).await;
        sender.finish();
        life.stop(asked, &vm.record().spec, None);
        Ok(())
    }

    /// Puts a machine of a snapshot in the place of the one that runs, which is not touched before the other is awake.
    async fn rewind_life(
        &self,
        vm: &mut OwnedVm,
        life: &mut Life,
        around: &mut Around<'_, '_>,
        id: &SnapshotId,
    ) -> Result<(), Error> {
        let before = vm.record().clone();
        match self.next_life(vm, life.machine.choice(), around.lives, id).await {
            Ok(next) => {
                let mut old = std::mem::replace(life, next);
                old.abort();
                old.machine.kill().await;
                Ok(())
            }
            Err(error) => {
                vm.update(|record| *record = before)?;
                Err(error)
            }
        }
    }

    /// All of a rewind that can fail.
    async fn next_life(
        &self,
        vm: &mut OwnedVm,
        choice: &Choice,
        lives: &Lives<'_>,
        id: &SnapshotId,
    ) -> Result<Life, Error> {
        let awake = self.boot_next(vm, choice, id).await?;
        let next = self.begin_life(vm, awake, lives.attachment.output.clone(), lives.control.console());
        // A machine of a snapshot that says nothing must not keep the one that runs.
        let next = within(SOON, "wake from the snapshot", next).await?;
        vm.update(|record| record.started_ns = Some(now_ns()))?;
        self.reach(FailPoint::RewindAwake)?;
        vm.dir().take_over_next()?;
        Ok(next)
    }
}

fn set_metadata(values: BTreeMap<String, String>, vm: &mut OwnedVm, life: &Life) -> Result<(), Error> {
    let mut record = vm.record().clone();
    record.spec.metadata.extend(values);
    metadata::check(&record.spec.metadata)?;
    let tree = metadata::tree(&record)?;
    vm.update(|known| *known = record)?;
    life.metadata.replace(tree);
    Ok(())
}

/// Changes what a running container may use.
async fn update(vm: &mut OwnedVm, life: &Life, limits: Limits) -> Result<(), Error> {
    let mut spec = vm.record().spec.clone();
    limits.set(&mut spec)?;
    let Limits { memory, cpu_milli, rootfs_size } = limits;
    if let Some(size) = rootfs_size {
        disks::grow(&life.files.scratch, size)?;
        life.machine.resize_disk(disks::SCRATCH, size.bytes()).await?;
        let grow = HostRequest::Grow { bytes: size.bytes() };
        within(SOON, "use its larger disk", ask(life.link.session(), &grow)).await?;
    }
    if memory.is_some() || cpu_milli.is_some() {
        let limit = HostRequest::Limit { memory: memory.map(MiB::bytes), cpu_milli };
        within(SOON, "change the container's limits", ask(life.link.session(), &limit)).await?;
    }
    vm.update(|record| record.spec = spec)?;
    vm.note(What::Update);
    Ok(())
}

fn tell(answer: oneshot::Sender<Done>, result: Result<(), Error>) {
    let done = result.map_or_else(|error| Done::Failed(in_full(&error)), |()| Done::Ok);
    let _asker_is_gone = answer.send(done);
}
