use super::*;
use crate::firecracker::Firecracker;
use crate::{Accelerator, Backend, Choice, Disk, Saved};
use fcvm_spec::{DiskFormat, MiB};

fn spec(origin: Origin) -> MachineSpec {
    let backend = Backend::Firecracker(Firecracker { program: "/usr/bin/firecracker".into(), version: None });
    let disk = |access| Disk { path: "/x".into(), format: DiskFormat::Raw, access };
    MachineSpec {
        choice: Choice { backend, accel: Accelerator::Kvm, reason: String::new() },
        cpus: 2,
        memory: MiB(512),
        pages: fcvm_spec::PageSize::Base,
        origin,
        disks: vec![disk(Access::ReadOnly), disk(Access::ReadWrite)],
        cgroups: Vec::new(),
        run_dir: "/x".into(),
    }
}

#[test]
fn a_machine_is_told_all_of_its_parts_before_it_starts() {
    let calls = boot(&spec(Origin::Boot { kernel: "/k".into(), initramfs: "/i".into() }));
    let names: Vec<String> = calls.iter().map(ToString::to_string).collect();
    let expected = [
        "PUT /boot-source",
        "PUT /machine-config",
        "PUT /drives/disk0",
        "PUT /drives/disk1",
        "PUT /vsock",
        "PUT /entropy",
        "PUT /actions",
    ];
    assert_eq!(names, expected);
    let text = format!("{calls:?}");
    assert!(!text.contains("/x"), "nothing of the host is named: {text}");
}

#[test]
fn disks_have_the_same_names_in_a_machine_that_boots_and_in_one_that_was_saved() {
    let boots = spec(Origin::Boot { kernel: "/k".into(), initramfs: "/i".into() });
    let saved = saved(None);
    let disks = |spec: &MachineSpec| {
        let disks = inherited(spec).into_iter().filter(|what| matches!(what, Inherited::Disk(_)));
        disks.map(Inherited::name).collect::<Vec<_>>()
    };
    assert_eq!(disks(&boots), ["disk0", "disk1"]);
    assert_eq!(disks(&boots), disks(&spec(Origin::Saved(saved))));
}

fn saved(server: Option<&str>) -> Saved {
    let version = "1.17.0".to_owned();
    Saved { memory: "/m".into(), pages: None, devices: "/d".into(), version, server: server.map(Into::into) }
}

#[test]
fn a_memory_is_a_file_to_be_mapped_or_what_listens_for_its_place() {
    let asked = |saved: &Saved| format!("{:?}", load(saved)).replace(['\\', ' '], "");
    let mapped = saved(None);
    assert!(asked(&mapped).contains(r#"File"#) && asked(&mapped).contains("/run/vm/memory"), "{}", asked(&mapped));
    let served = saved(Some("/s"));
    assert!(asked(&served).contains(r#"Uffd"#) && asked(&served).contains("/run/vm/pager"), "{}", asked(&served));
    let names =
        |saved: Saved| entries(&spec(Origin::Saved(saved))).into_iter().map(|entry| entry.name).collect::<Vec<_>>();
    assert!(!names(mapped).contains(&"pager".to_owned()));
    assert!(names(served).contains(&"pager".to_owned()), "and it has no memory to open");
}

#[test]
fn huge_pages_are_asked_for_only_where_they_are_wanted() {
    let boots = spec(Origin::Boot { kernel: "/k".into(), initramfs: "/i".into() });
    let asked = |spec: &MachineSpec| format!("{:?}", boot(spec)).contains("huge_pages");
    assert!(!asked(&boots));
    assert!(asked(&MachineSpec { pages: fcvm_spec::PageSize::Huge, ..boots }));
}

/// `nomodule` is in Firecracker's own parameters; the guest has modules.
#[test]
fn the_kernel_is_told_how_to_end_and_may_load_modules() {
    let parameters = parameters();
    assert!(parameters.contains("panic=-1") && !parameters.contains("nomodule"), "{parameters}");
}
