use super::*;
use fcvm_spec::{
    ContainerSpec, HealthSpec, MachineShape, NetworkMode, Phase, Removal, RestartPolicy, SnapshotPolicy, Stdin, VmId,
    VmSpec,
};

fn record(name: &str, seed: u8, removal: Removal) -> VmRecord {
    let spec = VmSpec {
        id: VmId::from_random([seed; 32]),
        name: name.parse().unwrap(),
        image: "busybox".to_owned(),
        root: fcvm_spec::RootKind::Image,
        container: ContainerSpec::default(),
        machine: MachineShape::default(),
        rootfs_size: None,
        cgroup: None,
        network: NetworkMode::Default,
        ports: Vec::new(),
        removal,
        stdin: Stdin::Null,
        snapshot: SnapshotPolicy::Allowed,
        metadata: Default::default(),
        health: HealthSpec::default(),
        restart: RestartPolicy::No,
    };
    VmRecord {
        spec,
        phase: Phase::Starting,
        created_ns: 1,
        started_ns: None,
        known: false,
        has_disk: false,
        owner: Owner::current(),
        monitor: None,
        image_digest: None,
        command: Vec::new(),
        ports: Vec::new(),
        restored: None,
        health: None,
        restarts: 0,
        ended: None,
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data")).unwrap();
    (dir, store)
}

#[test]
fn of_two_vms_with_one_name_exactly_one_is_made() {
    let (_dir, store) = store();
    let first = store.create_vm(record("web", 1, Removal::Keep)).unwrap();
    let error = store.create_vm(record("web", 2, Removal::Keep)).unwrap_err();
    assert!(matches!(error, Error::NameInUse { .. }), "{error}");
    assert_eq!(store.vms().unwrap().len(), 1);
    first.discard().unwrap();
    store.create_vm(record("web", 3, Removal::Keep)).unwrap();
}

#[test]
fn a_vm_is_found_by_name_id_and_beginning_of_id() {
    let (_dir, store) = store();
    let vm = store.create_vm(record("web", 0xab, Removal::Keep)).unwrap();
    for text in ["web", "ab", "abab", vm.dir().id().as_str()] {
        assert_eq!(store.find_vm(text).unwrap().id(), vm.dir().id(), "{text}");
    }
    for text in ["", "cd", "../vms", "webx", &"a".repeat(3000)] {
        assert!(matches!(store.find_vm(text), Err(Error::NoSuchVm(_))), "{text}");
    }
}

#[test]
fn a_live_vm_is_not_swept() {
    let (_dir, store) = store();
    let vm = store.create_vm(record("web", 1, Removal::Automatic)).unwrap();
    assert_eq!(store.sweep().unwrap(), []);
    assert!(vm.dir().is_owned());
}

#[test]
fn a_vm_whose_owner_died_while_starting_leaves_nothing() {
    let (_dir, store) = store();
    drop(store.create_vm(record("web", 1, Removal::Keep)).unwrap());
    assert_eq!(store.sweep().unwrap().len(), 1);
    assert!(store.vms().unwrap().is_empty());
    assert!(matches!(store.find_vm("web"), Err(Error::NoSuchVm(_))));
}

#[test]
fn a_vm_whose_owner_died_while_running_keeps_its_record_unless_rm_was_asked() {
    let (_dir, store) = store();
    for (name, seed, removal) in [("kept", 1, Removal::Keep), ("gone", 2, Removal::Automatic)] {
        let mut vm = store.create_vm(record(name, seed, removal)).unwrap();
        vm.update(|record| record.phase = Phase::Running).unwrap();
    }
    assert_eq!(store.sweep().unwrap().len(), 2);
    assert!(store.find_vm("gone").is_err());
    let record = store.find_vm("kept").unwrap().record().unwrap();
    assert_eq!((record.phase, record.ended.map(|ended| ended.code)), (Phase::Exited, Some(137)));
    assert_eq!(store.sweep().unwrap(), []);
}

fn created(store: &Store) -> VmDir {
    let record = VmRecord { phase: Phase::Created, ..record("web", 1, Removal::Keep) };
    store.create_unowned(record).unwrap();
    store.find_vm("web").unwrap()
}

#[test]
fn a_vm_that_was_created_waits_for_its_owner_and_is_not_swept() {
    let (_dir, store) = store();
    let vm = created(&store);
    assert!(!vm.is_owned());
    assert_eq!(store.sweep().unwrap(), []);
    let owned = vm.take().unwrap();
    assert!(matches!(vm.take(), Err(Error::Owned(name)) if name == "web"));
    drop(owned);
    assert_eq!(store.sweep().unwrap().len(), 1);
    assert_eq!(vm.record().unwrap().phase, Phase::Created);
    vm.take().unwrap();
}

#[test]
fn a_vm_whose_owner_died_while_starting_it_again_stays_with_its_disk() {
    let (_dir, store) = store();
    let vm = created(&store);
    fs::write(vm.scratch_disk(), "what it wrote").unwrap();
    let mut owned = vm.take().unwrap();
    owned.update(|record| record.phase = Phase::Starting).unwrap();
    drop(owned);
    store.sweep().unwrap();
    let record = vm.record().unwrap();
    assert_eq!((record.phase, record.ended.map(|ended| ended.code)), (Phase::Exited, Some(137)));
    assert!(vm.scratch_disk().exists());
}

#[test]
fn a_start_that_fails_leaves_the_vm_as_it_was() {
    let (_dir, store) = store();
    let vm = created(&store);
    let before = vm.record().unwrap();
    let mut owned = vm.take().unwrap();
    owned.update(|record| record.phase = Phase::Starting).unwrap();
    fs::write(vm.scratch_disk(), "half a disk").unwrap();
    owned.put_back(before.clone()).unwrap();
    assert_eq!(vm.record().unwrap(), before);
    assert!(!vm.scratch_disk().exists());
    assert!(!vm.is_owned());
    assert_eq!(store.sweep().unwrap(), []);
}

#[test]
fn a_vm_that_is_renamed_is_found_by_its_new_name_alone() {
    let (_dir, store) = store();
    let mut vm = store.create_vm(record("web", 1, Removal::Keep)).unwrap();
    let _other = store.create_vm(record("taken", 2, Removal::Keep)).unwrap();
    assert!(matches!(vm.rename("taken".parse().unwrap()), Err(Error::NameInUse { .. })));
    vm.rename("site".parse().unwrap()).unwrap();
    assert_eq!(store.find_vm("site").unwrap().id(), vm.dir().id());
    assert!(matches!(store.find_vm("web"), Err(Error::NoSuchVm(_))));
    store.create_vm(record("web", 3, Removal::Keep)).unwrap();
}

#[test]
fn the_sweep_ends_a_monitor_that_outlived_its_owner() {
    let (_dir, store) = store();
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let mut vm = store.create_vm(record("web", 1, Removal::Keep)).unwrap();
    let process = Owner::of(child.id()).unwrap();
    let (backend, accel, reason) = ("qemu".to_owned(), "tcg".to_owned(), String::new());
    vm.update(|record| record.monitor = Some(Monitor { process, backend, accel, reason })).unwrap();
    drop(vm);
    store.sweep().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_directory_that_was_never_finished_is_swept() {
    let (_dir, store) = store();
    let id = VmId::from_random([9; 32]);
    fs::create_dir(store.vms_dir().join(id.as_str())).unwrap();
    assert_eq!(store.sweep().unwrap(), [Swept::Removed(id.short().to_owned())]);
}

#[test]
fn a_data_directory_of_another_format_is_refused() {
    let (dir, _store) = store();
    fs::write(dir.path().join("data/format"), "99\n").unwrap();
    assert!(matches!(Store::open(&dir.path().join("data")), Err(Error::Format { .. })));
}

#[test]
fn files_that_hold_the_environment_are_the_owners_only() {
    let (_dir, store) = store();
    let vm = store.create_vm(record("web", 1, Removal::Keep)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(vm.dir().path()), 0o700);
    assert_eq!(mode(&vm.dir().path().join("record.json")), 0o600);
}

fn volume_name(name: &str) -> fcvm_spec::VolumeName {
    name.parse().unwrap()
}

#[test]
fn a_volume_is_made_once_found_by_its_beginning_and_removed_with_all_in_it() {
    let (dir, store) = store();
    assert!(store.volumes().unwrap().is_empty());
    let record = VolumeRecord { created_ns: 1, labels: [("a".to_owned(), "b".to_owned())].into() };
    let volume = store.create_volume(&volume_name("data"), &record).unwrap().unwrap();
    assert!(store.create_volume(&volume_name("data"), &VolumeRecord::default()).unwrap().is_none());
    assert_eq!((volume.record().unwrap(), volume.usage()), (record, VolumeUse::Fresh));
    volume.note_use().unwrap();
    assert_eq!(volume.usage(), VolumeUse::Used);
    std::fs::write(volume.data().join("file"), "four").unwrap();
    assert_eq!(volume.size(), 4);
    assert_eq!(store.find_volume("da").unwrap().name(), volume.name());
    store.create_volume(&volume_name("dart"), &VolumeRecord::default()).unwrap();
    assert!(matches!(store.find_volume("da"), Err(Error::Ambiguous(_))));
    assert!(matches!(store.find_volume(""), Err(Error::NoSuchVolume(_))));
    // What a killed process left has no name and goes with the next that is removed.
    let volumes = dir.path().join("data/volumes");
    std::fs::create_dir(volumes.join(".half")).unwrap();
    let mut user = self::record("user", 9, Removal::Keep);
    user.spec.container.volumes.push(fcvm_spec::VolumeSpec::parse("data:/x").unwrap());
    let vm = store.create_vm(user).unwrap();
    assert!(matches!(store.remove_volume(volume.name()), Err(Error::VolumeInUse { .. })));
    vm.discard().unwrap();
    store.remove_volume(volume.name()).unwrap();
    assert!(matches!(store.remove_volume(volume.name()), Err(Error::NoSuchVolume(_))));
    assert_eq!(std::fs::read_dir(volumes).unwrap().count(), 1);
}
