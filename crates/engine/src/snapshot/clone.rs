//! What a VM needs that starts from a snapshot: the files, and what is new for the guest.

use super::moved::Moved;
use crate::cache::Warm;
use crate::disks;
use crate::plan;
use crate::run::{Beginning, CacheUse, Hold, Prepared, RunRequest, host_facts};
use crate::snapshot::capture::MachineFiles;
use crate::volumes::settle::begin_views;
use crate::{Engine, Error};
use fcvm_net::Published;
use fcvm_proto::restore::Delta;
use fcvm_spec::{Invalid, Removal, RestartPolicy, SnapshotId, VmSpec, VolumeSpec};
use fcvm_store::snapshot::{ContainerState, Holds, Manifest, SavedMachine, SnapshotDir, SnapshotHold, name};
use fcvm_store::{OwnedVm, Restored};
use fcvm_sys::stamp;
use fcvm_vmm::{Choice, Saved};
use fcvm_volume::State;
use std::path::Path;
use std::sync::Arc;

impl Engine {
    /// Prepares a VM that starts from a snapshot.
    pub(crate) async fn prepare_clone(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        (id, server): (&SnapshotId, Option<u32>),
        env: &[String],
    ) -> Result<Prepared, Error> {
        let snapshot = self.store().snapshot(id)?;
        // What is given once is the container's from then on, in later machines too.
        vm.update(|record| record.spec.container.env.extend_from_slice(env))?;
        self.check_volumes(&request.spec.container).map_err(missing)?;
        let now = stamp::now_ns().map_err(Error::FileClock)?;
        vm.update(|record| begin_views(&mut record.spec.container, now))?;
        if snapshot.manifest()?.holds == Holds::Disk {
            return self.prepare_with_disk(vm, &snapshot).await;
        }
        let choice = self.choose(&request.spec)?;
        let ports = Arc::new(Published::bind(&request.spec.ports).await?);
        let mut lent = lend(vm.dir().path(), &snapshot, &choice)?;
        lent.states = settled(lent.states, &lent.manifest.spec, &request.spec)?;
        if crate::snapshot::serve::is_served(&lent.manifest.machine) {
            lent.saved.server = server.map(|pid| self.store().pager_of(pid)).transpose()?;
        }
        vm.update(|record| {
            record.image_digest.clone_from(&lent.manifest.image_digest);
            record.command.clone_from(&lent.manifest.command);
            record.ports = ports.mappings();
            record.restored = Some(Restored { snapshot: id.clone(), receipt: None });
        })?;
        let delta = Delta { env: env.to_vec(), ..delta(&request.spec) };
        let (beginning, files, hold) = lent.wake(delta);
        Ok(Prepared { choice, beginning, ports, files, hold: Some(hold), cache: CacheUse::None, warm: Warm::Unused })
    }

    /// Prepares a run that starts from a cached snapshot.
    pub(crate) fn prepare_wake(
        &self,
        vm: &mut OwnedVm,
        snapshot: &SnapshotDir,
        choice: &Choice,
        delta: Delta,
    ) -> Result<(Beginning, MachineFiles, Hold), Error> {
        let lent = lend(vm.dir().path(), snapshot, choice)?;
        vm.update(|record| record.restored = Some(Restored { snapshot: snapshot.id().clone(), receipt: None }))?;
        Ok(lent.wake(delta))
    }
}

/// A snapshot whose files a VM has.
pub(crate) struct Lent {
    pub(crate) manifest: Manifest,
    pub(crate) saved: Saved,
    pub(crate) files: MachineFiles,
    /// What its volumes were.
    pub(crate) states: Vec<State>,
    hold: SnapshotHold,
}

/// Puts all that a machine needs of a snapshot into a directory, if it can go on here.
pub(crate) fn lend(into: &Path, snapshot: &SnapshotDir, choice: &Choice) -> Result<Lent, Error> {
    let hold = snapshot.hold()?;
    let manifest = snapshot.manifest()?;
    snapshot.check_files(&manifest)?;
    if manifest.holds == Holds::Disk {
        return Err(Error::OnlyADisk);
    }
    check_machine(&manifest.machine, choice)?;
    snapshot.read_ahead_working_set();
    snapshot.lend(into)?;
    snapshot.lend_disks(&manifest.disks, into)?;
    let extra = disks::lock(into, &manifest.spec.machine)?;
    let pages = snapshot.path(name::PAGES);
    let saved = Saved {
        memory: into.join(name::MEMORY),
        pages: manifest.files.contains_key(name::PAGES).then_some(pages),
        devices: snapshot.path(name::DEVICES),
        version: manifest.machine.version.clone(),
        server: None,
    };
    let states = states(snapshot, &manifest)?;
    Ok(Lent { manifest, saved, files: MachineFiles::lent(into, extra), states, hold })
}

/// What the volumes were when their VM was saved.
fn states(snapshot: &SnapshotDir, manifest: &Manifest) -> Result<Vec<State>, Error> {
    if !manifest.files.contains_key(name::VOLUMES) {
        return Ok(Vec::new());
    }
    let failed = |source| Error::Snapshot { what: "read the volumes", source };
    let text = std::fs::read(snapshot.path(name::VOLUMES)).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

/// A tree that is not where the snapshot knew it may be somewhere else.
fn missing(error: Error) -> Error {
    match error {
        Error::NoSource { path, source } if source.kind() == std::io::ErrorKind::NotFound => Error::NoTree { path },
        other => other,
    }
}

/// The states of volumes some of which lie elsewhere now.
pub(crate) fn settled(states: Vec<State>, was: &VmSpec, is: &VmSpec) -> Result<Vec<State>, Error> {
    let of_host = |spec: &VmSpec| spec.container.volumes.iter().filter(|volume| volume.is_of_host()).cloned().collect();
    let (was, is): (Vec<VolumeSpec>, Vec<VolumeSpec>) = (of_host(was), of_host(is));
    let failed = |source| Error::Snapshot { what: "read the volumes", source };
    let settled = |(state, (was, is)): (State, (&VolumeSpec, &VolumeSpec))| {
        if was.source == is.source { Ok(state) } else { state.elsewhere().map_err(failed) }
    };
    states.into_iter().zip(was.iter().zip(&is)).map(settled).collect()
}

impl Lent {
    fn wake(self, delta: Delta) -> (Beginning, MachineFiles, Hold) {
        let Self { manifest, saved, files, states, hold } = self;
        let beginning = Beginning::Wake { saved, delta: Box::new(delta), container: manifest.container, states };
        (beginning, files, Hold::Snapshot { _hold: hold })
    }
}

/// A machine goes on only where it finds what it knew.
fn check_machine(saved: &SavedMachine, choice: &Choice) -> Result<(), Error> {
    let here = [choice.backend.to_string(), choice.accel.to_string(), choice.processor()];
    for ((what, was), is) in
        [("monitor", &saved.backend), ("accelerator", &saved.accel), ("processor", &saved.processor)].iter().zip(here)
    {
        if **was != is {
            return Err(Error::OtherMachine { what, saved: (*was).clone(), here: is });
        }
    }
    Ok(())
}

/// What is new for the guest. Epoch, time and entropy differ for every restore.
pub(crate) fn delta(spec: &VmSpec) -> Delta {
    let facts = host_facts();
    let world = plan::world(spec);
    Delta {
        epoch: epoch(),
        time_ns: facts.time_ns,
        entropy: facts.entropy_text(),
        hostname: world.hostname,
        machine_id: world.machine_id,
        hosts: world.hosts,
        resolv_conf: world.resolv_conf,
        env: Vec::new(),
        container: None,
    }
}

/// A random UUID (version 4).
fn epoch() -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&host_facts().entropy[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// The spec of a VM that starts from a snapshot: what is in the machine is the snapshot's, the rest is asked anew.
pub fn clone_spec(manifest: &Manifest, asked: CloneAsk) -> Result<VmSpec, Invalid> {
    let mut container = manifest.spec.container.clone();
    container.hostname = asked.hostname;
    // That makes another VM.
    container.typed = Vec::new();
    for moved in &asked.moved {
        moved.apply(&mut container.volumes)?;
    }
    Ok(VmSpec {
        id: asked.id,
        name: asked.name,
        container,
        ports: asked.ports,
        removal: asked.removal,
        // As in podman, what goes away by itself does not begin anew.
        restart: if asked.removal == Removal::Automatic { RestartPolicy::No } else { manifest.spec.restart },
        ..manifest.spec.clone()
    })
}

/// What can be asked of a VM that starts from a snapshot.
#[derive(Clone, Debug)]
pub struct CloneAsk {
    /// Its id.
    pub id: fcvm_spec::VmId,
    /// Its name.
    pub name: fcvm_spec::VmName,
    /// Its host name; the beginning of its id if absent.
    pub hostname: Option<String>,
    /// Its published ports.
    pub ports: Vec<fcvm_spec::PortMapping>,
    /// Whether it is removed when it ends.
    pub removal: Removal,
    /// Trees of its volumes that lie elsewhere now.
    pub moved: Vec<Moved>,
}

/// What a container of a snapshot is asked to do first.
pub(crate) fn first_request(container: ContainerState) -> fcvm_proto::message::HostRequest {
    match container {
        ContainerState::Unstarted => fcvm_proto::message::HostRequest::Start,
        ContainerState::Running => fcvm_proto::message::HostRequest::Attach,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fcvm_vmm::firecracker::{Firecracker, Version};
    use fcvm_vmm::qemu::Qemu;
    use fcvm_vmm::{Accelerator, Backend};

    #[test]
    fn a_snapshot_of_one_monitor_is_refused_by_the_other_in_one_sentence() {
        let firecracker = Firecracker { program: "/x".into(), version: Version::parse("1.17.0") };
        let backends = [Backend::Firecracker(firecracker), Backend::Qemu(Qemu { program: "/x".into() })];
        let choices = backends.map(|backend| Choice { backend, accel: Accelerator::Kvm, reason: String::new() });
        let saved = choices.clone().map(|choice| SavedMachine {
            backend: choice.backend.to_string(),
            version: "1".to_owned(),
            accel: choice.accel.to_string(),
            processor: choice.processor(),
        });
        for (saved, other) in [(&saved[0], &choices[1]), (&saved[1], &choices[0])] {
            let refused = check_machine(saved, other).unwrap_err().to_string();
            let (was, is) = (&saved.backend, other.backend.to_string());
            assert!(refused.contains("monitor") && refused.contains(was) && refused.contains(&is), "{refused}");
            assert_eq!(refused.lines().count(), 1);
        }
        for (saved, same) in saved.iter().zip(&choices) {
            check_machine(saved, same).unwrap();
        }
    }
}
