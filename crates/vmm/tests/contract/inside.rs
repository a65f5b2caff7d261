//! What a guest sees of its machine.

use crate::guest::{Guest, block_on, entrance};
use fcvm_spec::DiskFormat;
use fcvm_vmm::{Access, Disk, Error, Exit, boot};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const TESTS: &[crate::Test] = &[
    ("disks_come_in_their_order_and_with_their_rights", disks),
    ("as_many_disks_as_are_promised_come", many_disks),
    ("the_link_carries_bytes_both_ways", link),
    ("a_guest_that_powers_off_ends_its_machine", powers_off),
    ("a_flood_on_the_console_does_not_stop_the_guest", floods),
];

fn disk(directory: &Path, name: &str, access: Access) -> Disk {
    let path: PathBuf = directory.join(name);
    let mut content = name.as_bytes().to_vec();
    content.resize(1 << 20, 0);
    std::fs::write(&path, content).unwrap();
    Disk { path, format: DiskFormat::Raw, access }
}

fn disks(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let disks = [("system", Access::ReadOnly), ("image", Access::ReadOnly), ("scratch", Access::ReadWrite)];
        let disks = disks.map(|(name, access)| disk(directory.path(), name, access)).to_vec();
        let script = "for d in /sys/block/vd*; do n=${d##*/}\n\
            echo \"DISK $n $(cat $d/ro) $(head -c 8 /dev/$n | tr -d '\\0')\"; done\n\
            printf written > /dev/vda; printf written > /dev/vdc; sync\n";
        let spec = guest.scripted(directory.path(), disks, &(script.to_owned() + guest.power_off()));
        let mut machine = boot(&spec, &entrance()).await.unwrap();
        assert_eq!(machine.wait().await, Exit::PoweredOff);
        let tail = machine.console().tail();
        for line in ["DISK vda 1 system", "DISK vdb 1 image", "DISK vdc 0 scratch"] {
            assert!(tail.contains(line), "{line} in {tail}");
        }
        assert!(std::fs::read(&spec.disks[0].path).unwrap().starts_with(b"system"));
        assert!(std::fs::read(&spec.disks[2].path).unwrap().starts_with(b"written"));
    });
}

fn many_disks(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut spec =
            guest.scripted(directory.path(), Vec::new(), &format!("echo DISKS /dev/vd*\n{}", guest.power_off()));
        let most = spec.choice.backend.features().disks;
        let add = |index: usize| disk(directory.path(), &index.to_string(), Access::ReadOnly);
        spec.disks = (0..=most).map(add).collect();
        assert!(matches!(boot(&spec, &entrance()).await, Err(Error::Unsupported { .. })));
        spec.disks.truncate(most);
        let mut machine = boot(&spec, &entrance()).await.unwrap();
        assert_eq!(machine.wait().await, Exit::PoweredOff);
        let names: Vec<_> = (b'a'..).take(most).map(|letter| format!("/dev/vd{}", char::from(letter))).collect();
        let line = format!("DISKS {}\n", names.join(" "));
        assert!(machine.console().tail().contains(&line), "{line} {}", machine.console().tail());
    });
}

fn link(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo hello >&3; read line <&3; echo \"got $line\" >&3; read end <&3".to_owned();
        let spec = guest.linked(directory.path(), &(script + guest.power_off()));
        let mut machine = boot(&spec, &entrance()).await.unwrap();
        let mut line = machine.take_line().unwrap();
        assert!(machine.take_line().is_none());
        let mut link = line.connect().await.unwrap();
        let mut bytes = [0; 6];
        link.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"hello\n");
        link.write_all(b"words\n").await.unwrap();
        let mut bytes = [0; 10];
        link.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"got words\n");
        link.write_all(b"end\n").await.unwrap();
        assert_eq!(machine.wait().await, Exit::PoweredOff);
    });
}

fn powers_off(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let spec = guest.scripted(directory.path(), Vec::new(), guest.power_off());
        let mut machine = boot(&spec, &entrance()).await.unwrap();
        assert_eq!(machine.wait().await, Exit::PoweredOff);
    });
}

fn floods(guest: &Guest) {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo after the flood\n";
        let spec = guest.scripted(directory.path(), Vec::new(), &(script.to_owned() + guest.power_off()));
        let mut machine = boot(&spec, &entrance()).await.unwrap();
        assert_eq!(machine.wait().await, Exit::PoweredOff);
        let tail = machine.console().tail();
        assert!(tail.contains("xxxx") && tail.contains("after the flood"));
        assert!(tail.len() <= 64 << 10);
    });
}
