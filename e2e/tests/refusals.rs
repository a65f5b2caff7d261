//! Stories of hosts that lack something, of words that mean nothing, and of users beside each other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Started, busybox_archive, foreign_archive};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of so many bytes in the place of a host's images, VMs and snapshots.
struct Small(PathBuf);

impl Small {
    fn over(host: &Host, bytes: u32) -> Self {
        let artifacts = fs::read_link(host.data().join("artifacts")).unwrap();
        let options = CString::new(format!("size={bytes},mode=711")).unwrap();
        mount("tmpfs", host.data(), "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .expect("tests of full disks run as root");
        std::os::unix::fs::symlink(artifacts, host.data().join("artifacts")).unwrap();
        Self(host.data())
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        let filled = std::io::copy(&mut std::io::repeat(1), &mut file);
        assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn load(host: &Host, archive: &Path) -> fcvm_e2e::Finished {
    host.fcvm([OsStr::new("load"), OsStr::new("-q"), OsStr::new("-i"), archive.as_os_str()])
}

#[test]
fn a_full_disk_is_said_in_a_sentence_and_nothing_half_done_takes_its_room() {
    let host = Host::empty();
    let archive = busybox_archive(host.path());
    {
        let small = Small::over(&host, 1 << 20);
        load(&host, &archive).failed(125, "o space left");
        let images = fs::read_dir(small.0.join("images")).unwrap().map(|entry| entry.unwrap().path());
        let images: Vec<_> = images.filter(|path| path.is_dir() && fs::read_dir(path).unwrap().count() > 0).collect();
        assert_eq!(images, Vec::<PathBuf>::new());
    }
    let small = Small::over(&host, 16 << 20);
    load(&host, &archive).ok();
    // A program that writes more than the host has is told so as by a broken disk, and its machine goes on.
    let script = "yes | head -c 24000000 > /x; busybox fsync /x || echo failed; rm /x; echo on";
    let told = host.fcvm(["run", "--rm", "--no-snapshot", BUSYBOX, "sh", "-c", script]).ok().text();
    assert_eq!(told, "failed\non");
    host.start("box", &["--no-snapshot", BUSYBOX, "sleep", "1000"]);
    small.fill();
    host.fcvm(["run", "--rm", BUSYBOX, "true"]).failed(125, "o space left");
    host.fcvm(["snapshot", "create", "box"]).failed(125, "MiB are free");
    assert_eq!(host.vm("box").exec(&["echo", "here"]).ok().text(), "here");
    host.fcvm(["rm", "-f", "-t", "0", "box"]).ok();
    host.assert_clean();
    fs::remove_file(small.0.join("fill")).unwrap();
    assert_eq!(host.fcvm(["run", "--rm", BUSYBOX, "echo", "again"]).ok().text(), "again");
    host.assert_clean();
}

#[test]
fn a_full_disk_costs_no_snapshot_and_no_machine() {
    let host = Host::empty();
    let archive = busybox_archive(host.path());
    let small = Small::over(&host, 384 << 20);
    load(&host, &archive).ok();
    let vm = host.start("box", &["--no-snapshot", "--memory=128m", BUSYBOX, "sleep", "1000"]);
    host.fcvm(["snapshot", "create", "--tag", "warm", "box"]).ok();
    vm.exec(&["sh", "-c", "echo now > /var/written"]).ok();
    small.fill();
    for refused in [
        &["snapshot", "create", "box"][..],
        &["snapshot", "create", "--disk-only", "box"],
        &["snapshot", "diff", "warm", "box"],
        &["snapshot", "run", "-d", "--name", "copy", "warm"],
        &["fork", "--name", "child", "box"],
        &["rewind", "box", "warm"],
        &["prepare", "--tag", "ready", BUSYBOX, "sleep", "1000"],
    ] {
        let refused = host.fcvm(refused);
        assert_eq!(refused.code, 125, "{refused:?}");
        let said = &refused.stderr;
        assert!(said.contains("MiB are free") || said.contains("o space left"), "{said}");
        host.await_only(&["box"]);
        assert_eq!(vm.exec(&["cat", "/var/written"]).ok().text(), "now");
    }
    fs::remove_file(small.0.join("fill")).unwrap();
    host.fcvm(["snapshot", "verify", "warm"]).ok();
    assert_eq!(host.fcvm(["snapshot", "ls", "-q"]).ok().text().lines().count(), 1);
    host.fcvm(["rewind", "box", "warm"]).ok();
    vm.exec(&["test", "-e", "/var/written"]).failed(1, "");
    host.fcvm(["snapshot", "run", "-d", "--rm", "--name", "copy", "warm"]).ok();
    assert_eq!(host.vm("copy").exec(&["echo", "here"]).ok().text(), "here");
    host.fcvm(["rm", "-f", "-t", "0", "box", "copy"]).ok();
    host.assert_clean();
}

#[test]
fn a_data_directory_that_cannot_be_written_is_said_in_a_sentence() {
    let host = Host::empty();
    let archive = busybox_archive(host.path());
    let small = Small::over(&host, 16 << 20);
    load(&host, &archive).ok();
    mount_remount(&small.0, MountFlags::RDONLY, c"").unwrap();
    for command in [&["run", "--rm", BUSYBOX, "true"][..], &["pull", "localhost/other"], &["rmi", BUSYBOX]] {
        let finished = host.fcvm(command);
        assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
        finished.failed(125, "ead-only");
    }
}

#[test]
fn a_host_without_a_monitor_is_told_what_to_install() {
    let host = Host::new();
    let run = host.command(["run", "--rm", BUSYBOX, "true"]);
    // In a mount namespace of its own, what is no program stands in the monitor's place.
    let hide = "for dir in /usr/bin /usr/local/bin; do for qemu in $dir/qemu-system-*; do \
                [ ! -e $qemu ] || mount --bind /dev/null $qemu; done; done; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", hide, "sh"]).arg(run.get_program()).args(run.get_args());
    command.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let failed = Started::new(command, Vec::new()).finish().failed(125, "it is in the package qemu-system-");
    assert!(failed.stderr.contains("fcvm doctor"), "{}", failed.stderr);
    host.assert_clean();
}

#[test]
fn an_image_for_other_machines_is_refused_by_the_name_of_its_architecture() {
    let host = Host::empty();
    load(&host, &foreign_archive(host.path())).failed(125, "s390x");
    assert_eq!(host.fcvm(["images", "-q"]).ok().text(), "");
}

#[test]
fn words_that_are_not_text_are_refused_and_never_changed() {
    let host = Host::new();
    let broken = OsStr::from_bytes(b"caf\xe9");
    let assigned = OsStr::from_bytes(b"A=caf\xe9");
    let [run, rm, image, echo] = ["run", "--rm", BUSYBOX, "echo"].map(OsStr::new);
    for args in [
        &[run, rm, image, echo, broken][..],
        &[run, rm, OsStr::new("-e"), assigned, image, echo],
        &[run, rm, OsStr::new("--name"), broken, image, echo],
        &[run, rm, broken],
        &[OsStr::new("exec"), OsStr::new("box"), broken],
    ] {
        let failed = host.fcvm(args).failed(125, "UTF-8");
        assert_eq!(failed.stderr.lines().count(), 1, "{}", failed.stderr);
    }
    let mut command = host.command(["run", "--rm", "-e", "A", BUSYBOX, "true"]);
    command.env("A", broken);
    Started::new(command, Vec::new()).finish().failed(125, "UTF-8");
    host.assert_clean();
}

#[test]
fn names_of_three_thousand_letters_are_refused() {
    let host = Host::new();
    let long = "x".repeat(3000);
    for args in [
        &["run", "--rm", "--name", &long, BUSYBOX, "true"][..],
        &["run", "--rm", "--hostname", &long, BUSYBOX, "true"],
        &["run", "--rm", &long, "true"],
        &["exec", &long, "true"],
        &["snapshot", "create", "--tag", &long, "box"],
        &["snapshot", "run", &long],
    ] {
        let failed = host.fcvm(args);
        assert_eq!((failed.code, failed.stderr.lines().count()), (125, 1), "{}", failed.stderr);
    }
    host.assert_clean();
}

/// A user with a home of their own, beside root.
struct User<'h> {
    host: &'h Host,
    bin: PathBuf,
}

const UID: u32 = 4242;

impl<'h> User<'h> {
    fn new(host: &'h Host) -> Self {
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        open(host.path());
        let bin = host.path().join("bin");
        fs::create_dir(&bin).unwrap();
        // The checkout may be where this user may not look.
        for variable in ["FCVM_BIN", "FCVM_AGENT_BIN"] {
            let program = PathBuf::from(std::env::var_os(variable).unwrap());
            fs::copy(&program, bin.join(program.file_name().unwrap())).unwrap();
        }
        let artifacts = host.data().join("artifacts");
        let shared = fs::read_link(&artifacts).unwrap();
        fs::remove_file(&artifacts).unwrap();
        let owned = Command::new("cp").arg("-r").args([&shared, &artifacts]).status().unwrap();
        assert!(owned.success());
        give(&host.data());
        Self { host, bin }
    }

    fn fcvm(&self, args: &[&str]) -> fcvm_e2e::Finished {
        let mut command = Command::new("setpriv");
        let id = UID.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(self.bin.join("fcvm")).args(args);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.host.data());
        command.env("FCVM_DATA_DIR", self.host.data()).env("FCVM_CONFIG", "/dev/null");
        command.current_dir("/");
        Started::new(command, Vec::new()).finish()
    }
}

/// Gives a directory and all below it to the other user.
fn give(path: &Path) {
    chown(path, Some(UID), Some(UID)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path()));
    }
}

#[test]
fn two_users_with_two_data_directories_run_beside_each_other() {
    let (roots, others) = (Host::new(), Host::empty());
    let user = User::new(&others);
    let archive = busybox_archive(others.path());
    user.fcvm(&["load", "-q", "-i", archive.to_str().unwrap()]).ok();
    let run = ["run", "-d", "--name", "twin", BUSYBOX, "sleep", "1000"];
    std::thread::scope(|scope| {
        let other = scope.spawn(|| user.fcvm(&run).ok());
        roots.fcvm(run).ok();
        other.join().unwrap();
    });
    // What is asked of one says nothing of the other, and neither can reach into the other's.
    assert_eq!(user.fcvm(&["exec", "twin", "hostname"]).ok().text().len(), 12);
    let names = |listed: fcvm_e2e::Finished| listed.ok().text().lines().count();
    assert_eq!((names(user.fcvm(&["ps", "-q"])), names(roots.fcvm(["ps", "-q"]))), (1, 1));
    let data = roots.data();
    user.fcvm(&["--data-dir", data.to_str().unwrap(), "exec", "twin", "true"]).failed(125, "ermission denied");
    user.fcvm(&["snapshot", "create", "--tag", "warm", "twin"]).ok();
    user.fcvm(&["snapshot", "run", "-d", "--name", "copy", "warm"]).ok();
    assert_eq!(user.fcvm(&["exec", "copy", "id", "-u"]).ok().text(), "0");
    user.fcvm(&["rm", "-f", "-t", "0", "twin", "copy"]).ok();
    roots.fcvm(["rm", "-f", "-t", "0", "twin"]).ok();
    others.await_silence();
    roots.assert_clean();
}
