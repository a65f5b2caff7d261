//! Volumes with names, and those that a VM has for itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, VOLUMES, volumes_archive};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn loaded() -> Host {
    let host = Host::new();
    host.fcvm(["load", "-q", "-i", volumes_archive(host.path()).to_str().unwrap()]).ok();
    host
}

#[test]
fn volumes_are_made_listed_and_removed_as_in_podman() {
    let host = Host::empty();
    let volume = |args: &[&str]| host.fcvm(["volume"].iter().chain(args));
    assert_eq!(volume(&["create", "--label", "tier=data", "data"]).ok().text(), "data");
    volume(&["create", "data"]).failed(125, "volume with name data already exists");
    volume(&["create", "--opt", "type=nfs", "x"]).failed(125, "--opt type=nfs is not supported");
    volume(&["create", "--driver", "nfs", "x"]).failed(125, "no volume driver");
    volume(&["create", "a/b"]).failed(125, "invalid volume name");
    let random = volume(&["create"]).ok().text();
    assert_eq!(random.len(), 64);
    volume(&["exists", "data"]).ok();
    volume(&["exists", "other"]).failed(1, "");
    assert_eq!(volume(&["ls", "-q", "--filter", "label=tier=data"]).ok().text(), "data");
    assert!(volume(&["ls"]).ok().text().starts_with("DRIVER"));
    let place = volume(&["inspect", "--format", "{{.Mountpoint}}", "dat"]).ok().text();
    assert_eq!(place, host.data().join("volumes/data/_data").to_str().unwrap());
    volume(&["inspect", "nope"]).failed(125, "no such volume");
    volume(&["rm", "nope"]).failed(1, "no such volume");
    volume(&["rm", "-f", "nope"]).ok();
    assert!(host.fcvm(["system", "df"]).ok().text().contains("Local Volumes"));
    volume(&["prune"]).failed(125, "give --force");
    assert_eq!(volume(&["prune", "-f", "--filter", "label=tier"]).ok().text(), "data");
    host.fcvm(["system", "prune", "-f", "--volumes"]).ok();
    assert_eq!(volume(&["ls"]).ok().text(), "");
    host.assert_clean();
}

#[test]
fn a_volume_outlives_its_vms_and_begins_with_what_the_image_has() {
    let host = loaded();
    let args = ["-u", "alice", "--read-only", "-v", "site:/www:U", "-v", "data:/tmp/data", VOLUMES, "sleep", "1000"];
    let vm = host.start("one", &args);
    let of = |volume: &str| host.data().join("volumes").join(volume).join("_data");
    let owner = |path: std::path::PathBuf| fs::metadata(path).map(|found| (found.uid(), found.gid())).unwrap();
    assert_eq!(fs::read_to_string(of("site").join("index.html")).unwrap(), "hello from a microVM\n");
    assert_eq!((owner(of("site").join("index.html")), owner(of("data"))), ((1000, 1000), (1000, 1000)));
    let wrote = vm.exec(&["sh", "-c", "echo mine > /tmp/data/file; rm /www/index.html; echo x > /etc/x"]);
    wrote.failed(1, "Read-only file system");
    // What the image names and nobody gave is the VM's own, and can be written to.
    host.fcvm(["exec", "-u", "root", "one", "touch", "/cache/file"]).ok();
    let mounts = host.fcvm(["inspect", "--format", "{{json .Mounts}}", "one"]).ok().text();
    let mounts: serde_json::Value = serde_json::from_str(&mounts).unwrap();
    let told: Vec<_> = mounts
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (mount["Name"].as_str().unwrap(), mount["Destination"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("site", "/www"), ("data", "/tmp/data"), ("", "/cache")]);

    // Another VM has it at the same time, and what was emptied is not filled again.
    let other = host.start("two", &["-v", "data:/mnt:ro", "-v", "site:/www", VOLUMES, "sleep", "1000"]);
    assert_eq!(other.exec(&["sh", "-c", "cat /mnt/file; ls /www"]).ok().text(), "mine");
    other.exec(&["touch", "/mnt/x"]).failed(1, "Read-only file system");
    host.fcvm(["volume", "rm", "data"]).failed(2, "volume is being used");
    host.fcvm(["volume", "prune", "-f"]).ok();
    host.fcvm(["rm", "-f", "-t", "0", "-v", "one"]).ok();
    host.fcvm(["volume", "rm", "data"]).failed(2, "volume is being used");
    assert_eq!(host.fcvm(["volume", "rm", "-f", "-t", "0", "data"]).ok().text(), "data");
    host.fcvm(["inspect", "two"]).failed(125, "no such object");
    assert_eq!(host.fcvm(["volume", "ls", "-q"]).ok().text(), "site");
    host.fcvm(["volume", "rm", "site"]).ok();
    host.assert_clean();
}

#[test]
fn what_cannot_be_a_volume_is_refused_before_there_is_a_vm() {
    let host = Host::new();
    let many: Vec<String> = (0..64).flat_map(|number| ["-v".to_owned(), format!("/tmp:/v{number}")]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let run = |volumes: &[&str]| host.fcvm(["run", "--rm"].iter().chain(volumes).chain(&[BUSYBOX, "true"]));
    run(&many).failed(125, "64 volumes are too many: a VM can have 63");
    run(&["-v", "/etc/hostname:/x:fork"]).failed(125, "/etc/hostname is a file");
    run(&["-v", "/x:fork"]).failed(125, "its target is an absolute path");
    run(&["--mount", "type=volume,src=/tmp,dst=/x"]).failed(125, "that of a volume a name");
    host.assert_clean();
}
