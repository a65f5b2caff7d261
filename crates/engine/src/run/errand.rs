//! Errands: what is to be done with the files of a VM that does not run. Its machine starts without its container, gives or
//! takes files, and powers off; nothing else of the VM is touched.

use super::boot::{Awake, Booted};
use super::over::{Disk, power_off};
use super::prepare::{Beginning, CacheUse, Hold, Prepared, host_facts};
use crate::cache::Warm;
use crate::snapshot::capture::MachineFiles;
use crate::{Engine, Error, plan};
use fcvm_link::Session;
use fcvm_net::Published;
use fcvm_spec::{MachineShape, VmSpec};
use fcvm_store::{OwnedVm, Owner, VmDir, VmRecord};
use std::sync::Arc;

/// A machine that runs for its files. One that is dropped before its end is killed; the sweep puts its VM in order.
#[derive(Debug)]
pub(crate) struct Errand {
    vm: OwnedVm,
    before: VmRecord,
    awake: Awake,
}

impl Engine {
    /// Starts the machine of a VM that does not run.
    pub(crate) async fn errand(&self, dir: &VmDir) -> Result<Errand, Error> {
        let mut vm = dir.take()?;
        let before = vm.record().clone();
        let booted = async {
            vm.update(|record| record.owner = Owner::current())?;
            let prepared = self.prepare_errand(&vm).await?;
            self.boot(&mut vm, prepared).await
        };
        match booted.await {
            Ok(Booted { awake, .. }) => {
                // From now on it starts with the disk that it has.
                let before = VmRecord { has_disk: true, ..before };
                Ok(Errand { vm, before, awake })
            }
            Err(error) => {
                vm.put_back(before)?;
                Err(error)
            }
        }
    }

    async fn prepare_errand(&self, vm: &OwnedVm) -> Result<Prepared, Error> {
        let record = vm.record();
        // The user's disks stay where they are: others may use them.
        let machine = MachineShape { disks: Vec::new(), ..record.spec.machine.clone() };
        let spec = VmSpec { machine, ..record.spec.clone() };
        let set = self.boot_set(&spec)?;
        let image = self.image_of(record)?;
        let lock = self.images().hold(&image)?;
        let plan = plan::compute(&spec, &image.config, &host_facts())?;
        let scratch = vm.dir().scratch_disk();
        if !scratch.exists() {
            self.artifacts().instantiate_scratch(&scratch, spec.rootfs_size, &self.settings().search_path)?;
        }
        Ok(Prepared {
            choice: self.choose(&spec)?,
            beginning: Beginning::Boot { kernel: set.kernel, initramfs: set.initramfs, plan: Box::new(plan) },
            ports: Arc::new(Published::bind(&[]).await?),
            files: MachineFiles { system: set.system, image: image.disk, scratch, extra: Vec::new(), memory: None },
            hold: Some(Hold::Image { _lock: lock }),
            cache: CacheUse::None,
            warm: Warm::Unused,
        })
    }
}

impl Errand {
    /// The session with its guest.
    pub(crate) fn session(&self) -> &Session {
        self.awake.link.session()
    }

    /// What is known of its VM.
    pub(crate) fn record(&self) -> &VmRecord {
        &self.before
    }

    /// Ends it: what was given is on the VM's disk then.
    pub(crate) async fn end(self) -> Result<(), Error> {
        let Self { mut vm, before, mut awake } = self;
        power_off(awake.link.session(), &mut awake.machine, Disk::Stays).await;
        vm.update(|record| *record = before)?;
        Ok(vm.retire()?)
    }
}
