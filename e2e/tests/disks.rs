//! Stories of disks: the user's own, those that are made of directories, and the one that a VM writes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Finished, Host, Run, write_qcow2};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of the host's that must succeed.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A disk with an ext4 in which there is a file `seed`.
fn ext4(host: &Host, name: &str) -> PathBuf {
    let (disk, seed) = (host.path().join(name), host.path().join("seed"));
    fs::create_dir_all(&seed).unwrap();
    fs::write(seed.join("seed"), "sown").unwrap();
    File::create(&disk).unwrap().set_len(32 << 20).unwrap();
    run("mke2fs", &["-q", "-t", "ext4", "-d", text(&seed), text(&disk)]);
    disk
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory of what archives and shells stumble over.
fn models(host: &Host) -> PathBuf {
    let dir = host.path().join("models");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join(OsStr::from_bytes(b"new\nline \xff")), "odd").unwrap();
    let sparse = File::create(dir.join("sparse")).unwrap();
    sparse.set_len(3 << 30).unwrap();
    sparse.write_all_at(b"end", (3 << 30) - 3).unwrap();
    fs::write(dir.join("owned"), "mine").unwrap();
    chown(dir.join("owned"), Some(1234), Some(4321)).unwrap();
    fs::set_permissions(dir.join("owned"), fs::Permissions::from_mode(0o4751)).unwrap();
    dir
}

fn as_root(host: &Host, vm: &str, script: &str) -> Finished {
    host.fcvm(["exec", "--user", "0", vm, "sh", "-c", script])
}

/// The room for files of a container's root, in MiB.
fn room(vm: &Run<'_>) -> u64 {
    let told = vm.exec(&["busybox", "df", "-m", "/"]).ok().text();
    told.lines().last().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn disks_of_all_kinds_are_seen_written_saved_and_left_whole() {
    let host = Host::new();
    let (data, plain, models) = (ext4(&host, "data.ext4"), ext4(&host, "plain"), models(&host));
    let tools = host.path().join("tools.qcow2");
    write_qcow2(&plain, &tools);
    let disk = |path: &Path, rest: &str| format!("{}:{rest}", path.display());
    let disks = [disk(&data, "/data"), disk(&tools, "/data/tools:ro"), disk(&models, "/models")];
    let flags = ["--rootfs-size", "256m", "--disk", &disks[0], "--disk", &disks[1], "--disk-dir", &disks[2]];
    let vm = host.start("box", &[&flags[..], &[BUSYBOX, "sleep", "1000"]].concat());

    // What is on them, whose it is, and what may be done with it.
    assert_eq!(vm.exec(&["cat", "/data/seed", "/data/tools/seed"]).ok().text(), "sownsown");
    assert_eq!(vm.exec(&["sh", "-c", "cat /models/new*; tail -c 3 /models/sparse"]).ok().text(), "oddend");
    let owner = vm.exec(&["stat", "-c", "%u %g %a %s", "/models/owned", "/models/sparse"]).ok().text();
    assert_eq!(owner.lines().collect::<Vec<_>>(), ["1234 4321 4751 4", "0 0 644 3221225472"]);
    as_root(&host, "box", "echo x > /data/tools/x").failed(1, "ead-only");
    as_root(&host, "box", "echo x > /models/x").failed(1, "ead-only");
    as_root(&host, "box", "echo one > /data/new; busybox mkdir /data/sub").ok();

    // One writes, or many read.
    let other = |disk: &str| host.fcvm(["run", "--rm", "--disk", disk, BUSYBOX, "cat", "/x/seed"]);
    for refused in [disk(&data, "/x"), disk(&data, "/x:ro"), disk(&tools, "/x")] {
        other(&refused).failed(125, "another VM uses it");
    }
    assert_eq!(other(&disk(&tools, "/x:ro")).ok().text(), "sown");

    // What they take and what goes over them is told.
    as_root(&host, "box", "busybox dd if=/dev/zero of=/data/much bs=1M count=8 conv=fsync").ok();
    // Whatever it answers, it has been asked over the network.
    vm.exec(&["busybox", "wget", "-q", "-O", "-", "http://169.254.169.254/"]);
    let json = |args: &[&str]| serde_json::from_slice::<serde_json::Value>(&host.fcvm(args).ok().stdout).unwrap();
    let stats = json(&["stats", "--no-stream", "--format", "json", "box"])[0].clone();
    for field in ["id", "name", "cpu_time", "cpu_percent", "avg_cpu", "mem_usage", "mem_percent"] {
        assert!(stats[field].is_string(), "{field} of {stats}");
    }
    for field in ["net_io", "block_io"] {
        let both: Vec<&str> = stats[field].as_str().unwrap().split(" / ").collect();
        assert!(both.len() == 2 && !both.contains(&"0B"), "{field} of {stats}");
    }
    let kinds = json(&["system", "df", "--format", "json"]);
    let kind = kinds.as_array().unwrap().iter().find(|kind| kind["Type"] == "Containers").unwrap();
    // The disk of the directory is the VM's; those of the user's are not.
    assert!(kind["RawSize"].as_u64().unwrap() >= stats["vm"]["HostDisk"].as_u64().unwrap(), "{kind} {stats}");
    let made = fs::read_dir(host.data().join("vms")).unwrap().next().unwrap().unwrap().path().join("disk2");
    assert!(kind["RawSize"].as_u64().unwrap() > made.metadata().unwrap().blocks() * 512, "{kind}");

    // The VM's own grows while it runs.
    assert!((200..256).contains(&room(&vm)), "{}", room(&vm));
    host.fcvm(["update", "--rootfs-size", "1g", "box"]).ok();
    assert!((900..1024).contains(&room(&vm)), "{}", room(&vm));
    as_root(&host, "box", "head -c 400000000 /dev/zero > /big && busybox rm /big").ok();
    host.fcvm(["update", "--rootfs-size", "512m", "box"]).failed(125, "cannot become smaller");

    // A clone has a copy of what could be written, and the rest as it was.
    host.fcvm(["snapshot", "create", "box", "--tag", "s"]).ok();
    as_root(&host, "box", "echo two > /data/new").ok();
    host.fcvm(["snapshot", "run", "s", "-d", "--name", "copy"]).ok();
    let copy = host.vm("copy");
    assert_eq!(copy.exec(&["cat", "/data/new", "/data/tools/seed", "/models/owned"]).ok().text(), "one\nsownmine");
    as_root(&host, "copy", "echo three > /data/new").ok();
    host.fcvm(["fork", "box", "--name", "twin"]).ok();
    assert_eq!(host.vm("twin").exec(&["cat", "/data/new", "/models/owned"]).ok().text(), "two\nmine");
    host.fcvm(["rm", "-f", "-t", "0", "twin"]).ok();
    assert_eq!(vm.exec(&["cat", "/data/new"]).ok().text(), "two");
    host.fcvm(["rewind", "box", "s"]).failed(125, "would not go back");
    host.fcvm(["rewind", "copy", "s"]).ok();
    assert_eq!(copy.exec(&["cat", "/data/new"]).ok().text(), "one");
    host.fcvm(["rm", "-f", "-t", "0", "copy"]).ok();
    host.fcvm(["snapshot", "create", "--disk-only", "box", "--tag", "d"]).ok();
    let cold = host.fcvm(["snapshot", "run", "d", "--rm", "-d", "--name", "cold"]);
    cold.ok();
    assert_eq!(host.vm("cold").exec(&["cat", "/data/new", "/models/owned"]).ok().text(), "two\nmine");
    host.fcvm(["rm", "-f", "-t", "0", "cold"]).ok();
    fs::OpenOptions::new().append(true).open(&tools).unwrap().set_len(64 << 20).unwrap();
    host.fcvm(["snapshot", "run", "s", "--name", "late"]).failed(125, "is not what it was");

    // When the VM has stopped the user's disk is whole, and its own may grow as well.
    host.fcvm(["stop", "-t", "0", "box"]).ok();
    run("e2fsck", &["-n", "-f", text(&data)]);
    assert!(!run("debugfs", &["-R", "features", text(&data)]).contains("needs_recovery"));
    assert_eq!(run("debugfs", &["-R", "cat /new", text(&data)]), "two\n");
    host.fcvm(["update", "--rootfs-size", "2g", "box"]).ok();
    host.fcvm(["start", "box"]).ok();
    assert!(room(&vm) > 1900, "{}", room(&vm));
    assert_eq!(vm.exec(&["cat", "/data/new", "/models/owned"]).ok().text(), "two\nmine");
    host.fcvm(["rm", "-f", "-v", "-t", "0", "box"]).ok();
    assert!(data.exists() && models.exists());
    host.fcvm(["snapshot", "rm", "s", "d"]).ok();
    host.assert_clean();
}

#[test]
fn what_is_no_disk_is_refused_in_a_sentence() {
    let host = Host::new();
    let path = |name: &str| host.path().join(name);
    fs::write(path("empty"), "").unwrap();
    fs::write(path("garbage"), vec![7; 1 << 20]).unwrap();
    fs::create_dir(path("dir")).unwrap();
    // As far as they are told by: what is behind that is never read.
    for (name, place, magic) in [("xfs", 0, &b"XFSB"[..]), ("btrfs", (64 << 10) + 64, b"_BHRfS_M")] {
        let disk = File::create(path(name)).unwrap();
        disk.set_len(1 << 20).unwrap();
        disk.write_all_at(magic, place).unwrap();
    }
    let tried = |flags: &[String]| {
        let flags = flags.iter().map(String::as_str);
        host.fcvm(["run", "--rm"].into_iter().chain(flags).chain([BUSYBOX, "true"]))
    };
    let disk = |name: &str, rest: &str| ["--disk".to_owned(), format!("{}:{rest}", path(name).display())];
    for (name, rest, words) in [
        ("none", "/x", "No such file"),
        ("empty", "/x", "mkfs.ext4"),
        ("dir", "/x", "not a regular file"),
        ("garbage", "/x:qcow2", "not in the format qcow2"),
        ("garbage", "x", "absolute path"),
        ("garbage", "/x:vmdk", "ro, rw, raw or qcow2"),
        // The guest looks at it, and says what there is.
        ("garbage", "/x", "the disk for /x: there is no file system on it"),
        ("xfs", "/x", "the disk for /x: its file system is xfs, which the guest's kernel does not know"),
        ("btrfs", "/x", "the disk for /x: its file system is btrfs, which the guest's kernel does not know"),
    ] {
        tried(&disk(name, rest)).failed(125, words);
    }
    let many: Vec<String> = (0..4).flat_map(|number| disk("garbage", &format!("/{number}:ro"))).collect();
    tried(&many).failed(125, "takes 3 disks");
    tried(&[disk("garbage", "/x"), disk("garbage", "/x")].concat()).failed(125, "duplicate mount destination");
    tried(&["--disk-dir".to_owned(), format!("{}:/x", path("empty").display())]).failed(125, "not a directory");
    tried(&["--disk-dir".to_owned(), format!("{}:/x:rw", path("dir").display())]).failed(125, "--volume");
    tried(&["--rootfs-size".to_owned(), "1m".to_owned()]).failed(125, "64 MiB");
    host.assert_clean();
}
