//! The command line as a whole, and what varies in it.

use super::*;
use crate::qemu::Qemu;
use crate::{Backend, Choice, Disk};
use fcvm_spec::MiB;

fn machine(accel: Accelerator, disks: Vec<Disk>) -> MachineSpec {
    let choice =
        Choice { backend: Backend::Qemu(Qemu { program: "/usr/bin/qemu".into() }), accel, reason: String::new() };
    let file = |name: &str| std::path::PathBuf::from(name);
    MachineSpec {
        choice,
        cpus: 1,
        memory: MiB(512),
        pages: fcvm_spec::PageSize::Base,
        origin: Origin::Boot { kernel: file("/k"), initramfs: file("/i") },
        disks,
        cgroups: Vec::new(),
        run_dir: file("/r"),
    }
}

fn disks() -> Vec<Disk> {
    let disk = |path: &str, access| Disk { path: path.into(), format: DiskFormat::Raw, access };
    vec![disk("/secret/image", Access::ReadOnly), disk("/secret/scratch", Access::ReadWrite)]
}

/// Returns the line with one option per line.
fn text(spec: &MachineSpec) -> String {
    let words: Vec<_> = arguments(spec, Some(2_300_000)).into_iter().map(|word| word.into_string().unwrap()).collect();
    words.join(" ").replace(" -", "\n-")
}

/// Returns the values of an option.
fn values<'a>(text: &'a str, option: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(option)?.strip_prefix(' ')).collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_whole_line_is_as_it_was_tried() {
    let expected = "\
-M microvm,acpi=on,rtc=on,pit=on,pic=on,pcie=off,isa-serial=on,memory-backend=memory
-accel tcg,thread=multi,tb-size=64
-cpu qemu64,+rdrand,+arat
-smp 1
-m 512M
-object memory-backend-file,id=memory,size=512M,mem-path=/proc/self/fd/3,share=on
-nodefaults
-no-user-config
-no-reboot
-display none
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-global virtio-mmio.force-legacy=false
-kernel /proc/self/fd/8
-initrd /proc/self/fd/9
-append console=ttyS0 reboot=t 8250.nr_uarts=1 i8042.nokbd i8042.noaux random.trust_cpu=on no_timer_check \
noreplace-smp quiet loglevel=4 panic=-1 mitigations=off nopti nokaslr cryptomgr.notests rcupdate.rcu_expedited=1 \
tsc_early_khz=2300000 tsc=reliable
-chardev socket,id=control,fd=4
-mon chardev=control,mode=control
-chardev socket,id=console,fd=6
-serial chardev:console
-chardev socket,id=link,fd=5
-device virtio-serial-device,max_ports=2
-device virtserialport,chardev=link,nr=1,name=fcvm.link
-add-fd fd=10,set=1
-blockdev driver=file,node-name=file0,filename=/dev/fdset/1,locking=off,read-only=on
-blockdev driver=raw,node-name=disk0,file=file0,read-only=on
-device virtio-blk-device,drive=disk0,serial=vda,rerror=report,werror=report
-add-fd fd=11,set=2
-blockdev driver=file,node-name=file1,filename=/dev/fdset/2,locking=off,read-only=off,cache.no-flush=on,discard=unmap
-blockdev driver=raw,node-name=disk1,file=file1,read-only=off,cache.no-flush=on,discard=unmap,detect-zeroes=unmap
-device virtio-blk-device,drive=disk1,serial=vdb,rerror=report,werror=report
-object rng-builtin,id=entropy
-device virtio-rng-device,rng=entropy";
    assert_eq!(text(&machine(Accelerator::Tcg, disks())), expected);
}

#[test]
fn kvm_takes_the_hosts_processor_and_clock() {
    let text = text(&machine(Accelerator::Kvm, Vec::new()));
    assert_eq!((values(&text, "-accel"), values(&text, "-cpu")), (vec!["kvm"], vec!["host"]));
    assert!(!text.contains("tsc"), "{text}");
}

#[test]
fn nothing_of_the_host_is_named() {
    let text = text(&machine(Accelerator::Tcg, disks()));
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_saved_machine_maps_its_memory_privately_and_waits_for_its_state() {
    let file = |name: &str| std::path::PathBuf::from(name);
    let saved =
        crate::Saved { memory: file("/m"), pages: None, devices: file("/d"), version: String::new(), server: None };
    let spec = MachineSpec { origin: Origin::Saved(saved), ..machine(Accelerator::Tcg, disks()) };
    let text = text(&spec);
    assert!(text.contains("mem-path=/proc/self/fd/3,share=off"), "{text}");
    assert_eq!(values(&text, "-incoming"), ["defer"]);
    assert!(!text.contains("-kernel") && !text.contains("-append"), "{text}");
    assert_eq!(incoming(&spec), "fd:8");
    assert_eq!(values(&text, "-add-fd"), ["fd=9,set=1", "fd=10,set=2"]);
}

#[test]
fn a_disk_of_the_users_is_flushed_and_a_qcow2_reads_no_other_file() {
    let disk = |format, access| Disk { path: "/secret/x".into(), format, access };
    let disks = vec![disk(DiskFormat::Raw, Access::Durable), disk(DiskFormat::Qcow2, Access::Durable)];
    let text = text(&machine(Accelerator::Tcg, disks));
    assert!(!text.contains("no-flush"), "{text}");
    let node = values(&text, "-blockdev")[3].to_owned();
    let node: serde_json::Value = serde_json::from_str(&node).unwrap();
    assert_eq!((&node["driver"], &node["backing"]), (&json!("qcow2"), &json!(null)));
    assert_eq!((&node["node-name"], &node["read-only"]), (&json!("disk1"), &json!(false)));
}

#[test]
fn disks_are_named_as_linux_names_them() {
    assert_eq!([0, 1, 15].map(disk_name), ["vda", "vdb", "vdp"]);
}
