//! Snapshots of a disk alone: the guest's file system stands still while the disk is copied, the machine does not. VMs that
//! start from one boot, and find what the first had written.

use super::capture::{Keep, Live, MachineFiles, blocking, copy_disks, describe, entry, keep_disks};
use super::{CaptureRequest, Captured};
use crate::cache::Warm;
use crate::disks;
use crate::link::{ask, within};
use crate::plan;
use crate::run::{Beginning, CacheUse, Prepared, host_facts, now_ns};
use crate::{Engine, Error};
use fcvm_net::Published;
use fcvm_proto::message::HostRequest;
use fcvm_store::snapshot::{Manifest, SnapshotDir, Staging, name};
use fcvm_store::{FailPoint, OwnedVm, Restored};
use oci_spec::image::ImageConfiguration;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a guest may take to write back what it holds, or to go on.
const PATIENCE: Duration = Duration::from_secs(30);

impl Engine {
    /// Captures the disk of a machine.
    pub(crate) async fn capture_disk(&self, live: &Live<'_>, request: CaptureRequest) -> Result<Captured, Error> {
        let staging = self.store().begin_snapshot(request.id.clone())?;
        staging.need(live.files.copied_bytes()?)?;
        // What the author of the VM's image says: a boot needs it.
        let config = self.image_of(live.record)?.config;
        let session = live.link.session();
        let asked = |what, request| async move { within(PATIENCE, what, ask(session, &request)).await };
        let frozen = asked("stand still", HostRequest::Freeze).await;
        let (begun, at_ns) = (Instant::now(), now_ns());
        let copied = match frozen {
            Ok(()) => copy(live, &staging).await,
            // It may freeze yet.
            Err(error @ Error::NotSilent { .. }) => Err(error),
            Err(error) => return Err(error),
        };
        match (copied, asked("go on", HostRequest::Thaw).await) {
            (Ok(()), thawed) => thawed?,
            (Err(error), Ok(())) => return Err(error),
            (Err(first), Err(then)) => return Err(Error::Twice { first: Box::new(first), then: Box::new(then) }),
        }
        let manifest = describe(live, request, at_ns, begun.elapsed())?;
        let files = live.files.clone();
        blocking(move || write(staging, manifest, &files, &config)).await
    }

    /// Prepares a VM that boots with the disk of a snapshot.
    pub(super) async fn prepare_with_disk(&self, vm: &mut OwnedVm, snapshot: &SnapshotDir) -> Result<Prepared, Error> {
        let _hold = snapshot.hold()?;
        let manifest = snapshot.manifest()?;
        snapshot.check_files(&manifest)?;
        let spec = &vm.record().spec;
        let set = self.boot_set(spec)?;
        let choice = self.choose(spec)?;
        let plan = plan::compute(spec, &config_in(snapshot)?, &host_facts())?;
        let ports = Arc::new(Published::bind(&spec.ports).await?);
        snapshot.lend_disk(vm.dir().path())?;
        snapshot.lend_disks(&manifest.disks, vm.dir().path())?;
        let extra = disks::lock(vm.dir().path(), &vm.record().spec.machine)?;
        vm.update(|record| {
            record.image_digest.clone_from(&manifest.image_digest);
            record.command = plan::command(&plan);
            record.ports = ports.mappings();
            record.restored = Some(Restored { snapshot: manifest.id.clone(), receipt: None });
        })?;
        let lent = MachineFiles::lent(vm.dir().path(), extra);
        Ok(Prepared {
            choice,
            beginning: Beginning::Boot { kernel: set.kernel, initramfs: set.initramfs, plan: Box::new(plan) },
            ports,
            files: MachineFiles { system: set.system, memory: None, ..lent },
            hold: None,
            cache: CacheUse::None,
            warm: Warm::Unused,
        })
    }
}

async fn copy(live: &Live<'_>, staging: &Staging) -> Result<(), Error> {
    let copies = live.files.copies(staging)?;
    blocking(move || copy_disks(&copies)).await?;
    Ok(staging.reach(FailPoint::CaptureSaved)?)
}

fn write(
    staging: Staging,
    mut manifest: Manifest,
    files: &MachineFiles,
    config: &ImageConfiguration,
) -> Result<Captured, Error> {
    let failed = |what| move |source: std::io::Error| Error::Snapshot { what, source };
    let text = serde_json::to_vec(config).map_err(|error| failed("write the image's configuration")(error.into()))?;
    staging.create(name::CONFIG)?.write_all(&text).map_err(failed("write the image's configuration"))?;
    staging.link(&files.image, name::IMAGE)?;
    let own = [(name::CONFIG, Keep::Verifiable), (name::SCRATCH, Keep::Verifiable), (name::IMAGE, Keep::Cheaply)];
    let own = own.map(|(name, keep)| (name.to_owned(), keep));
    for (name, keep) in own.into_iter().chain(keep_disks(files, &manifest.disks, &staging, Keep::Verifiable)?) {
        let entry = entry(&staging.path(&name), keep).map_err(failed("measure a file"))?;
        manifest.files.insert(name, entry);
    }
    let pause_us = manifest.pause_us;
    let snapshot = staging.commit(&manifest)?;
    Ok(Captured { id: snapshot.id().clone(), pause_us, own_pages: None, sizes: snapshot.sizes()? })
}

fn config_in(snapshot: &SnapshotDir) -> Result<ImageConfiguration, Error> {
    let failed = |source| Error::Snapshot { what: "read the image's configuration", source };
    let bytes = std::fs::read(snapshot.path(name::CONFIG)).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
}
