//! The key changes when the machine would be another, and only then.

use super::*;
use fcvm_spec::{ContainerSpec, HealthSpec, MachineShape, MiB, Removal, RootKind, SnapshotPolicy, Stdin, VmId};
use fcvm_vmm::qemu::Qemu;
use fcvm_vmm::{Accelerator, Backend};

fn spec() -> VmSpec {
    VmSpec {
        id: VmId::from_random([1; 32]),
        name: "web".parse().unwrap(),
        image: "nginx".to_owned(),
        root: RootKind::Image,
        container: ContainerSpec::default(),
        machine: MachineShape { cpus: 1, memory: MiB(512), ..MachineShape::default() },
        rootfs_size: None,
        cgroup: None,
        network: NetworkMode::Default,
        ports: Vec::new(),
        removal: Removal::Keep,
        stdin: Stdin::Null,
        snapshot: SnapshotPolicy::Allowed,
        metadata: Default::default(),
        health: HealthSpec::default(),
        restart: fcvm_spec::RestartPolicy::No,
    }
}

fn set() -> Set {
    let path = |text: &str| text.into();
    Set {
        kernel: path("/d/kernels/k1/vmlinux"),
        initramfs: path("/d/initramfs/i1.cpio"),
        system: path("/d/systems/s1/system.erofs"),
    }
}

fn choice(accel: Accelerator) -> Choice {
    Choice { backend: Backend::Qemu(Qemu { program: "/usr/bin/qemu".into() }), accel, reason: String::new() }
}

fn key(change: impl FnOnce(&mut VmSpec, &mut Set, &mut String)) -> CacheKey {
    let (mut spec, mut set, mut image) = (spec(), set(), "sha256:1".to_owned());
    change(&mut spec, &mut set, &mut image);
    CacheKey::of(&spec, &image, &set, &choice(Accelerator::Tcg))
}

#[test]
fn what_the_machine_does_not_show_is_not_in_the_key() {
    let same = key(|_, _, _| {});
    let others = [
        key(|spec, _, _| spec.id = VmId::from_random([2; 32])),
        key(|spec, _, _| spec.name = "other".parse().unwrap()),
        key(|spec, _, _| spec.image = "docker.io/library/nginx".to_owned()),
        key(|spec, _, _| spec.container.env = vec!["A=1".to_owned()]),
        key(|spec, _, _| spec.container.command = vec!["true".to_owned()]),
        key(|spec, _, _| spec.container.hostname = Some("h".to_owned())),
        key(|spec, _, _| drop(spec.container.labels.insert("a".to_owned(), "b".to_owned()))),
        key(|spec, _, _| spec.ports = fcvm_spec::PortMapping::parse("8080:80").unwrap()),
        key(|spec, _, _| spec.removal = Removal::Automatic),
        key(|spec, _, _| spec.stdin = Stdin::Carried),
        key(|_, set, _| set.system = "/elsewhere/s1/system.erofs".into()),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_eq!(*other, same, "change {index}");
    }
}

/// The key of a machine whose container is well.
fn warm(change: impl Fn(&mut VmSpec)) -> CacheKey {
    let mut changed = spec();
    change(&mut changed);
    key(|spec, _, _| change(spec)).warm(&changed)
}

#[test]
fn what_a_container_that_is_well_does_not_show_is_not_in_its_key() {
    let same = warm(|_| {});
    assert_ne!(same, key(|_, _, _| {}));
    let others = [
        warm(|spec| spec.id = VmId::from_random([2; 32])),
        warm(|spec| spec.name = "other".parse().unwrap()),
        warm(|spec| spec.container.hostname = Some("h".to_owned())),
        warm(|spec| drop(spec.container.labels.insert("a".to_owned(), "b".to_owned()))),
        warm(|spec| spec.container.stop_timeout = Some(1)),
        warm(|spec| spec.ports = fcvm_spec::PortMapping::parse("8080:80").unwrap()),
        warm(|spec| spec.removal = Removal::Automatic),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_eq!(*other, same, "change {index}");
    }
}

#[test]
fn what_shapes_a_container_is_in_the_key_of_one_that_is_well() {
    let mut keys = vec![
        warm(|_| {}),
        warm(|spec| spec.container.env = vec!["A=1".to_owned()]),
        warm(|spec| spec.container.command = vec!["true".to_owned()]),
        warm(|spec| spec.container.user = Some("alice".to_owned())),
        warm(|spec| spec.container.read_only = true),
        warm(|spec| spec.container.memory = Some(1 << 20)),
        warm(|spec| spec.health.url = Some("http://site/".parse().unwrap())),
        warm(|spec| spec.machine.cpus = 2),
    ];
    let count = keys.len();
    keys.sort_by(|one, other| one.0.cmp(&other.0));
    keys.dedup();
    assert_eq!(keys.len(), count);
}

/// They change only with what they are made of: later runs have to find what earlier ones made.
#[test]
fn keys_stay_as_they_are() {
    let (spec, set, choice) = (spec(), set(), choice(Accelerator::Tcg));
    let shape = LaunchShape::of(&spec, "sha256:1", &set, &choice);
    let key = CacheKey::digest(&LaunchShape { processor: "one for all hosts".to_owned(), ..shape });
    assert_eq!(key.0, "68c235f2e385ae4d40d116c3431373fadf2fc58d1975ead8a9c7cadb16ecd081");
    assert_eq!(key.warm(&spec).0, "5ac395df50bd5f071f4c6a18e8c259c76135cd44a2251ebcccdf62fb88b6d219");
}

#[test]
fn what_shapes_the_machine_is_in_the_key() {
    let mut keys = vec![
        key(|_, _, _| {}),
        key(|_, _, image| *image = "sha256:2".to_owned()),
        key(|spec, _, _| spec.machine.cpus = 2),
        key(|spec, _, _| spec.machine.memory = MiB(1024)),
        key(|spec, _, _| spec.network = NetworkMode::None),
        key(|_, set, _| set.kernel = "/d/kernels/k2/vmlinux".into()),
        key(|_, set, _| set.initramfs = "/d/initramfs/i2.cpio".into()),
        key(|_, set, _| set.system = "/d/systems/s2/system.erofs".into()),
        CacheKey::of(&spec(), "sha256:1", &set(), &choice(Accelerator::Kvm)),
    ];
    let count = keys.len();
    keys.sort_by(|one, other| one.0.cmp(&other.0));
    keys.dedup();
    assert_eq!(keys.len(), count);
}
