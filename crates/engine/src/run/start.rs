//! VMs that are made without being started, and the start of such a one or of one that has ended.

use super::prepare::{Beginning, CacheUse, Hold, Prepared, exposed, host_facts};
use super::{Attendance, Goal, Origin, Publish, RunObserver, RunOutcome, RunRequest, advance, new_record};
use crate::cache::Warm;
use crate::snapshot::capture::MachineFiles;
use crate::{Attachment, Engine, Error, plan};
use fcvm_image::{Image, PullPolicy};
use fcvm_net::Published;
use fcvm_spec::lifecycle::Event;
use fcvm_spec::{Phase, VmId};
use fcvm_store::{FailPoint, OwnedVm, Owner, VmRecord, What};
use std::sync::Arc;

impl Engine {
    /// Makes a VM that is started later. Its image is fetched, and is the one that it will have.
    pub fn create(&self, request: RunRequest, progress: &dyn fcvm_image::Progress) -> Result<VmId, Error> {
        self.check_disks(&request.spec)?;
        let image = self.ensure_image(&request.spec, &self.pull_options(request.pull), progress)?;
        let _hold = self.images().hold(&image)?;
        let mut record = new_record(request.spec, Phase::Created);
        self.settle_volumes(&mut record.spec.container, &image.config)?;
        let plan = plan::compute(&record.spec, &image.config, &host_facts())?;
        record.command = plan::command(&plan);
        record.image_digest = Some(image.digest.clone());
        if request.publish == Publish::Exposed {
            record.spec.ports.extend(exposed(&image.config));
        }
        record.ports.clone_from(&record.spec.ports);
        let id = record.spec.id.clone();
        self.store().create_unowned(record.clone())?;
        self.store().note(&record, What::Create);
        Ok(id)
    }

    /// Starts a VM that was only created or has ended, and runs it to its end.
    pub async fn start(
        &self,
        vm: &str,
        attendance: Attendance,
        mut attachment: Attachment,
        observer: &dyn RunObserver,
    ) -> Result<RunOutcome, Error> {
        let mut vm = self.store().find_vm(vm)?.take()?;
        let before = vm.record().clone();
        vm.update(|record| {
            advance(record, Event::Claimed);
            record.owner = Owner::current();
            (record.health, record.ended, record.restarts) = (None, None, 0);
        })?;
        let outcome = self.live(&mut vm, &request(&before, attendance), &mut attachment, observer).await;
        let has_begun = vm.record().phase != Phase::Starting;
        let released = match &outcome {
            Err(_) if !has_begun => vm.put_back(before).map_err(Error::from),
            Err(error) => self.conclude_failed(vm, error),
            Ok(outcome) => self.conclude(vm, outcome),
        };
        super::with_left_overs(outcome, released)
    }

    /// Prepares a VM that boots with the disk that it has; it listens on `ports` already, or on those that it had.
    pub(super) async fn prepare_again(
        &self,
        vm: &mut OwnedVm,
        ports: Option<Arc<Published>>,
    ) -> Result<Prepared, Error> {
        let spec = &vm.record().spec;
        self.check_volumes(&spec.container)?;
        let set = self.boot_set(spec)?;
        let image = self.image_of(vm.record())?;
        let lock = self.images().hold(&image)?;
        let ports = match ports {
            Some(ports) => ports,
            None => Arc::new(Published::bind(&vm.record().ports).await?),
        };
        let plan = plan::compute(spec, &image.config, &host_facts())?;
        let choice = self.choose(spec)?;
        vm.update(|record| {
            record.command = plan::command(&plan);
            record.ports = ports.mappings();
            record.restored = None;
        })?;
        self.reach(FailPoint::Planned)?;
        let scratch = vm.dir().scratch_disk();
        let extra = self.ready_disks(vm.dir(), &vm.record().spec.machine)?;
        Ok(Prepared {
            choice,
            beginning: Beginning::Boot { kernel: set.kernel, initramfs: set.initramfs, plan: Box::new(plan) },
            ports,
            files: MachineFiles { system: set.system, image: image.disk, scratch, extra, memory: None },
            hold: Some(Hold::Image { _lock: lock }),
            cache: CacheUse::None,
            warm: Warm::Unused,
        })
    }

    /// The image of a VM that is known already: the very one, whatever its name means by now.
    pub(crate) fn image_of(&self, record: &VmRecord) -> Result<Image, Error> {
        let gone = || Error::ImageGone(record.spec.image.clone());
        match self.images().store().lookup(record.image_digest.as_ref().ok_or_else(gone)?) {
            Err(fcvm_image::Error::NotFound { .. }) => Err(gone()),
            found => Ok(found?),
        }
    }
}

/// How a VM is started again: with the disk that it has left, if it has run.
fn request(record: &VmRecord, attendance: Attendance) -> RunRequest {
    RunRequest {
        spec: record.spec.clone(),
        pull: PullPolicy::Never,
        publish: Publish::Named,
        origin: if record.started_ns.is_some() || record.has_disk { Origin::Own } else { Origin::Image },
        goal: Goal::Run,
        attendance,
    }
}
