//! What other processes ask of a running VM, done between two events of its life.

use super::drive::Life;
use super::lives::Lives;
use super::{advance, now_ns};
use crate::control::{Ask, CaptureAnswer};
use crate::error::in_full;
use crate::{Engine, Error, Output, metadata};
use fcvm_net::Published;
use fcvm_proto::message::Done;
use fcvm_spec::SnapshotId;
use fcvm_spec::lifecycle::{Asked, Event};
use fcvm_store::{FailPoint, OwnedVm};
use fcvm_vmm::Choice;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

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
        match ask {
            Ask::Check(answer) => life.check(&vm.record().spec, answer),
            Ask::Stop(timeout_s) => {
                vm.update(|record| advance(record, Event::StopAsked))?;
                life.stop(Asked::Stop, &vm.record().spec, timeout_s);
            }
            Ask::Restart(timeout_s, answer) => {
                vm.update(|record| advance(record, Event::StopAsked))?;
                around.lives.restarters.push(answer);
                life.stop(Asked::Restart, &vm.record().spec, timeout_s);
            }
            Ask::Capture(request, answer) => {
                let captured = self.capture(&life.live(vm.record()), request).await;
                let failed = |error| CaptureAnswer::Failed(in_full(&error));
                let _asker_is_gone = answer.send(captured.map_or_else(failed, CaptureAnswer::Captured));
            }
            Ask::Tune(answer) => {
                let _asker_is_gone = answer.send(done(self.tune_snapshot(&life.live(vm.record()))));
            }
            Ask::SetMetadata(values, answer) => {
                let _asker_is_gone = answer.send(done(set_metadata(values, vm, life)));
            }
            Ask::Rewind(id, answer) => {
                let rewound = self.rewind_life(vm, life, around, &id).await;
                if rewound.is_ok() {
                    life.open(around.ports, &around.lives.control);
                    life.watch(vm)?;
                }
                let _asker_is_gone = answer.send(done(rewound));
            }
        }
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
        match self.next_life(vm, life.machine.choice(), around.lives.attachment.output.as_ref(), id).await {
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
        output: Option<&mpsc::Sender<Output>>,
        id: &SnapshotId,
    ) -> Result<Life, Error> {
        let awake = self.boot_next(vm, choice, id).await?;
        let volumes = self.attach_volumes(&vm.record().spec, awake.link.session(), awake.states.clone()).await?;
        let next = Life::begin(vm, (awake, volumes), None, output.cloned()).await?;
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

fn done(result: Result<(), Error>) -> Done {
    result.map_or_else(|error| Done::Failed(in_full(&error)), |()| Done::Ok)
}
