use super::*;
use fcvm_spec::{
    ContainerSpec, HealthSpec, MachineShape, NetworkMode, Removal, RootKind, SnapshotPolicy, Stdin, VmId, VmSpec,
};
use std::collections::BTreeMap;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data")).unwrap();
    (dir, store)
}

fn id(seed: u8) -> SnapshotId {
    SnapshotId::from_random([seed; 32])
}

fn manifest(seed: u8, files: BTreeMap<String, FileEntry>) -> Manifest {
    let source = Source { id: VmId::from_random([9; 32]), name: "web".parse().unwrap() };
    Manifest {
        id: id(seed),
        created_ns: 1,
        kind: Kind::User,
        holds: Holds::Machine,
        labels: BTreeMap::new(),
        spec: VmSpec {
            id: source.id.clone(),
            name: source.name.clone(),
            image: "busybox".to_owned(),
            root: RootKind::Image,
            container: ContainerSpec::default(),
            machine: MachineShape::default(),
            rootfs_size: None,
            cgroup: None,
            network: NetworkMode::Default,
            ports: Vec::new(),
            removal: Removal::Keep,
            stdin: Stdin::Null,
            snapshot: SnapshotPolicy::default(),
            metadata: Default::default(),
            health: HealthSpec::default(),
            restart: fcvm_spec::RestartPolicy::No,
        },
        source,
        parent: None,
        image_digest: None,
        command: Vec::new(),
        machine: SavedMachine {
            backend: "qemu".to_owned(),
            version: "7.2.22".to_owned(),
            accel: "tcg".to_owned(),
            processor: "qemu64".to_owned(),
        },
        container: ContainerState::Running,
        pause_us: 1,
        disks: Vec::new(),
        files,
    }
}

fn make(store: &Store, seed: u8) -> SnapshotDir {
    let staging = store.begin_snapshot(id(seed)).unwrap();
    let path = staging.path(name::MEMORY);
    fs::write(&path, b"memory").unwrap();
    let entry = FileEntry { size: 6, sha256: Some(digest(&path).unwrap()) };
    staging.commit(&manifest(seed, BTreeMap::from([(name::MEMORY.to_owned(), entry)]))).unwrap()
}

fn make_fork(store: &Store, seed: u8) -> SnapshotDir {
    let staging = store.begin_snapshot(id(seed)).unwrap();
    staging.commit(&Manifest { kind: Kind::Fork, ..manifest(seed, BTreeMap::new()) }).unwrap()
}

fn entries(store: &Store) -> usize {
    fs::read_dir(store.snapshots_dir()).unwrap().count()
}

#[test]
fn a_snapshot_is_found_by_tag_id_and_the_beginning_of_an_id_once_it_is_whole() {
    let (_dir, store) = store();
    let staging = store.begin_snapshot(id(7)).unwrap();
    assert!(store.snapshots().unwrap().is_empty());
    drop(staging);
    let snapshot = make(&store, 1);
    let tag: VmName = "warm".parse().unwrap();
    store.tag_snapshot(&tag, snapshot.id()).unwrap();
    for text in ["warm", id(1).as_str(), &id(1).as_str()[..5]] {
        assert_eq!(store.find_snapshot(text).unwrap().id(), &id(1), "{text}");
    }
    assert_eq!(store.tags_of(&id(1)).unwrap(), [tag]);
    for text in ["", "cold", "ff", "../../etc", &"a".repeat(3000)] {
        assert!(matches!(store.find_snapshot(text), Err(Error::NoSuchSnapshot(_))), "{text}");
    }
    snapshot.remove().unwrap();
    assert!(store.find_snapshot("warm").is_err());
    assert_eq!(fs::read_dir(store.snapshots_dir()).unwrap().count(), 0);
}

#[test]
fn a_tag_moves_to_the_newer_snapshot() {
    let (_dir, store) = store();
    let (first, second) = (make(&store, 1), make(&store, 2));
    let tag: VmName = "latest".parse().unwrap();
    store.tag_snapshot(&tag, first.id()).unwrap();
    store.tag_snapshot(&tag, second.id()).unwrap();
    assert_eq!(store.find_snapshot("latest").unwrap().id(), second.id());
    assert!(store.tags_of(first.id()).unwrap().is_empty());
}

#[test]
fn what_a_killed_maker_left_is_swept_and_what_a_live_one_makes_is_not() {
    let (_dir, store) = store();
    let live = store.begin_snapshot(id(1)).unwrap();
    let killed = store.begin_snapshot(id(2)).unwrap();
    let path = killed.path.clone();
    // As a kill does it: the lock goes, the directory stays.
    let kept = path.with_extension("kept");
    fs::rename(&path, &kept).unwrap();
    drop(killed);
    fs::rename(&kept, &path).unwrap();
    // Killed before it had a lock, or while what it had was removed.
    let bare = store.snapshots_dir().join(format!("{}.gone", id(3)));
    fs::create_dir(&bare).unwrap();
    store.sweep_snapshots().unwrap();
    assert!(!path.exists() && !bare.exists());
    assert!(live.path.exists());
}

#[test]
fn the_snapshot_of_a_fork_is_found_by_its_whole_id_alone_and_goes_with_its_hold() {
    let (_dir, store) = store();
    let hold = store.hold_fork(&id(1)).unwrap();
    store.sweep_snapshots().unwrap();
    let fork = make_fork(&store, 1);
    store.sweep_snapshots().unwrap();
    assert_eq!(store.snapshot(&id(1)).unwrap().manifest().unwrap().kind, Kind::Fork);
    assert!(store.snapshots().unwrap().is_empty());
    assert!(matches!(store.find_snapshot(id(1).as_str()), Err(Error::NoSuchSnapshot(_))));
    drop(hold);
    assert!(!fork.path.exists());
    assert!(matches!(store.snapshot(&id(1)), Err(Error::NoSuchSnapshot(_))));
    assert_eq!(entries(&store), 0);
}

#[test]
fn the_snapshot_of_a_fork_whose_command_was_killed_is_swept_once_nobody_restores_from_it() {
    let (_dir, store) = store();
    let fork = make_fork(&store, 1);
    fs::write(fork.path.with_extension("hold"), "").unwrap();
    let restoring = fork.hold().unwrap();
    store.sweep_snapshots().unwrap();
    assert_eq!(fork.manifest().unwrap().id, id(1));
    drop(restoring);
    store.sweep_snapshots().unwrap();
    assert_eq!(entries(&store), 0);
}

#[test]
fn a_snapshot_without_its_lock_can_be_removed() {
    let (_dir, store) = store();
    let snapshot = make(&store, 1);
    fs::remove_file(snapshot.path(name::LOCK)).unwrap();
    snapshot.remove().unwrap();
    assert!(matches!(snapshot.remove(), Err(Error::NoSuchSnapshot(_))));
    assert_eq!(entries(&store), 0);
}

#[test]
fn every_damage_of_a_manifest_is_a_sentence() {
    let (_dir, store) = store();
    let snapshot = make(&store, 1);
    let path = snapshot.path(name::MANIFEST);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(snapshot.manifest(), Err(Error::DamagedSnapshot { .. })), "cut at {length}");
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(snapshot.manifest().is_err(), "changed at {place}");
    }
    let text = String::from_utf8(whole).unwrap();
    fs::write(&path, text.replacen("fcvm-snapshot 1 ", "fcvm-snapshot 2 ", 1)).unwrap();
    assert!(matches!(snapshot.manifest(), Err(Error::FutureSnapshot { .. })));
}

#[test]
fn a_manifest_of_another_snapshot_is_refused() {
    let (_dir, store) = store();
    let (first, second) = (make(&store, 1), make(&store, 2));
    fs::copy(second.path(name::MANIFEST), first.path(name::MANIFEST)).unwrap();
    assert!(matches!(first.manifest(), Err(Error::DamagedSnapshot { .. })));
}

#[test]
fn files_that_changed_are_named() {
    let (_dir, store) = store();
    let snapshot = make(&store, 1);
    assert_eq!(snapshot.verify().unwrap(), Vec::<String>::new());
    fs::write(snapshot.path(name::MEMORY), b"mem0ry").unwrap();
    assert_eq!(snapshot.verify().unwrap(), [name::MEMORY]);
    fs::write(snapshot.path(name::MEMORY), b"longer than it was").unwrap();
    assert!(matches!(snapshot.verify(), Err(Error::DamagedSnapshot { .. })));
    fs::remove_file(snapshot.path(name::MEMORY)).unwrap();
    assert!(matches!(snapshot.verify(), Err(Error::DamagedSnapshot { .. })));
}

#[test]
fn a_manifest_names_no_file_outside_of_its_directory() {
    let (_dir, store) = store();
    let staging = store.begin_snapshot(id(1)).unwrap();
    let entry = FileEntry { size: 0, sha256: None };
    let snapshot = staging.commit(&manifest(1, BTreeMap::from([("../../format".to_owned(), entry)]))).unwrap();
    assert!(matches!(snapshot.check_files(&snapshot.manifest().unwrap()), Err(Error::DamagedSnapshot { .. })));
}

#[test]
fn a_digest_does_not_depend_on_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (sparse, full) = (dir.path().join("sparse"), dir.path().join("full"));
    let file = File::create(&sparse).unwrap();
    file.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 500_000).unwrap();
    fs::write(&full, fs::read(&sparse).unwrap()).unwrap();
    assert_eq!(digest(&sparse).unwrap(), digest(&full).unwrap());
}

#[test]
fn one_claims_a_cache_and_those_used_longest_ago_go_first() {
    let (_dir, store) = store();
    let (first, second) = ("aa", "bb");
    let claim = store.claim_cache(first).unwrap().unwrap();
    assert!(store.claim_cache(first).unwrap().is_none());
    assert!(store.cached(first).unwrap().is_none());
    claim.fill(make(&store, 1).id()).unwrap();
    store.claim_cache(second).unwrap().unwrap().fill(make(&store, 2).id()).unwrap();
    assert!(store.cached(second).unwrap().is_some());
    assert!(store.cached(first).unwrap().is_some());
    store.evict_caches(u64::MAX).unwrap();
    assert_eq!(store.snapshots().unwrap().len(), 2);
    let own = store.cached(first).unwrap().unwrap().sizes().unwrap();
    store.evict_caches(own.real - own.shared).unwrap();
    assert!(store.cached(second).unwrap().is_none());
    assert!(store.cached(first).unwrap().is_some());
    store.forget_cached(first, &id(9)).unwrap();
    assert!(store.cached(first).unwrap().is_some(), "another generation is not removed");
    store.forget_cached(first, &id(1)).unwrap();
    assert!(store.cached(first).unwrap().is_none());
    assert!(store.snapshots().unwrap().is_empty());
}

#[test]
fn a_server_that_was_killed_serves_nothing_and_is_swept() {
    let (_dir, store) = store();
    let served = store.serve_snapshot(&id(1), 42).unwrap();
    assert_eq!(store.served_by(42).unwrap(), id(1));
    assert!(matches!(store.pager_of(42), Err(Error::NoPager(42))));
    let listener = std::os::unix::net::UnixListener::bind(served.pager()).unwrap();
    store.sweep_snapshots().unwrap();
    assert_eq!(store.served_by(42).unwrap(), id(1));
    assert_eq!(store.pager_of(42).unwrap(), served.pager());
    assert!(matches!(store.served_by(43), Err(Error::NoServer(43))));
    // Without its owner's last word, as after SIGKILL: the kernel drops the lock, the file stays.
    let (path, socket) = (store.snapshots_dir().join("42.serve"), served.pager());
    drop((served, listener));
    assert!(!socket.exists());
    fs::write(&socket, "").unwrap();
    fs::write(&path, id(1).as_str()).unwrap();
    assert!(matches!(store.served_by(42), Err(Error::NoServer(42))));
    store.sweep_snapshots().unwrap();
    assert!(!path.exists() && !socket.exists());
}
