//! Stories of `cp`: files that go into containers and come out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, Started};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

/// A tree `d` of files, links, a sparse file and a long name.
fn tree(host: &Host) -> PathBuf {
    let top = host.path().join("d");
    fs::create_dir_all(top.join("sub")).unwrap();
    fs::write(top.join("file"), "one").unwrap();
    fs::set_permissions(top.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(top.join("file"), top.join("sub/again")).unwrap();
    symlink("../file", top.join("sub/link")).unwrap();
    fs::write(top.join("n".repeat(150)), "long").unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(256 << 20).unwrap();
    sparse.write_all_at(b"middle", 128 << 20).unwrap();
    top
}

#[test]
fn files_and_trees_go_in_and_come_out_as_they_were() {
    let host = Host::new();
    let top = tree(&host);
    let vm = host.start("box", &["--user", "alice", BUSYBOX, "sleep", "1000"]);
    let path = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
    let cp = |from: &str, to: &str| host.fcvm(["cp", from, to]);
    cp(&path("d"), "box:/tmp").ok();
    let state = vm.exec(&["stat", "-c", "%a %U %s %h", "/tmp/d/file", "/tmp/d/sub/again"]).ok().text();
    assert_eq!(state, "640 alice 3 2\n640 alice 3 2");
    assert_eq!(vm.exec(&["readlink", "/tmp/d/sub/link"]).ok().text(), "../file");
    let blocks: u64 = vm.exec(&["stat", "-c", "%b", "/tmp/d/sparse"]).ok().text().parse().unwrap();
    assert!(blocks < 1000, "{blocks}");
    cp("box:/tmp/d", &path("back")).ok();
    let back = host.path().join("back");
    for name in ["file", "sparse", &"n".repeat(150)] {
        assert_eq!(fs::read(top.join(name)).unwrap(), fs::read(back.join(name)).unwrap(), "{name}");
    }
    let (file, again) = (back.join("file").metadata().unwrap(), back.join("sub/again").metadata().unwrap());
    assert_eq!((file.ino(), file.mode() & 0o7777, file.mtime()), (again.ino(), 0o640, again.mtime()));
    assert_eq!(fs::read_link(back.join("sub/link")).unwrap().to_str(), Some("../file"));
    assert!(back.join("sparse").metadata().unwrap().blocks() < 1000);

    // Names, existing targets, contents, and what is refused.
    cp(&path("d/file"), "box:/home/new").ok();
    cp(&path("d/file"), "box:home/").ok();
    cp(&(path("d") + "/."), "box:/home/made").ok();
    assert_eq!(vm.exec(&["cat", "/home/new", "/home/file", "/home/made/file"]).ok().text(), "oneoneone");
    cp(&path("d/file"), "box:/home/none/").failed(125, "/home/none/");
    cp("box:/none", &path("x")).failed(125, "/none");
    cp(&path("d"), "box:/home/new").failed(125, "a directory in the place of a file");
    host.fcvm(["cp", "--overwrite", &path("d"), "box:/home/made/file"])
        .failed(125, "a directory in the place of a file");
    cp(&path("d/file"), &path("d/other")).failed(125, "VM:PATH");
    cp("box:/dev/null", &path("x")).failed(125, "neither a file nor a directory");
    host.fcvm(["cp", "-a=false", &path("d/file"), "box:/home/kept"]).ok();
    assert_eq!(vm.exec(&["stat", "-c", "%u", "/home/kept"]).ok().text(), "0");

    // Archives of the user's, and from one VM to another.
    let archive = host.fcvm(["cp", "box:/tmp/d/sub", "-"]).ok();
    let names: Vec<String> = tar::Archive::new(archive.stdout.as_slice())
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"sub/again".to_owned()), "{names:?}");
    host.fcvm_with(["cp", "-", "box:/home"], archive.stdout).ok();
    assert_eq!(vm.exec(&["cat", "/home/sub/again"]).ok().text(), "one");
    host.fcvm_with(["cp", "-", "box:/home"], b"no archive, but long enough for a header".repeat(20))
        .failed(125, "malformed");
    for program in ["bzip2", "xz", "zstd"] {
        host.fcvm_with(["cp", "-", "box:/home"], packed_by(program, "packed", program)).ok();
        assert_eq!(vm.exec(&["cat", "/home/packed"]).ok().text(), program);
    }
    host.fcvm_with(["cp", "-", "box:/home/new"], Vec::new()).failed(125, "a directory in the place of a file");
    let other = host.start("other", &["--read-only", BUSYBOX, "sleep", "1000"]);
    cp("box:/tmp/d/.", "other:/tmp").ok();
    assert_eq!(other.exec(&["cat", "/tmp/sub/link"]).ok().text(), "one");
    cp(&path("d/file"), "other:/etc/x").failed(125, "ead-only");

    // A container's links lead nowhere else than its own processes go.
    let links = "busybox ln -s ../../../../../etc/passwd /var/up; busybox ln -s /proc/1/root/etc /var/magic";
    host.fcvm(["exec", "--user", "0", "box", "sh", "-c", links]).ok();
    let passwd = vm.exec(&["cat", "/etc/passwd"]).ok().text();
    cp("box:/var/up", &path("passwd")).ok();
    assert_eq!(fs::read_to_string(host.path().join("passwd")).unwrap().trim_end(), passwd);
    cp("box:/var/magic/passwd", &path("y")).failed(125, "ymbolic link");
}

/// A tar stream of one file, compressed by a program.
fn packed_by(program: &str, name: &str, text: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    Started::new(Command::new(program), archive.into_inner().unwrap()).finish().ok().stdout
}

#[test]
fn files_go_into_vms_that_do_not_run_and_come_out_of_them() {
    let host = Host::new();
    let path = |name: &str| host.path().join(name).to_str().unwrap().to_owned();
    let cp = |from: &str, to: &str| host.fcvm(["cp", from, to]);
    let shown = || host.fcvm(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().text();
    fs::write(path("given"), "from the host").unwrap();

    // Before it first starts.
    let command = "cat /etc/given /etc/twice";
    let flags = ["--name", "box", "--user", "alice", "--tmpfs", "/mem"];
    let run = || {
        host.fcvm(["start", "box"]).ok();
        host.fcvm(["wait", "box"]).ok();
        host.fcvm(["logs", "box"]).ok().text()
    };
    host.fcvm(["create"].iter().chain(&flags).chain(&[BUSYBOX, "sh", "-c", command])).ok();
    cp(&path("given"), "box:/etc/given").ok();
    cp(&path("given"), "box:/mem/x").failed(125, "mounted only while the VM runs");
    cp("box:/none", &path("x")).failed(125, "/none");
    cp("box:/etc/given", "box:/etc/twice").ok();
    cp("box:/etc/twice", &path("back")).ok();
    assert_eq!(fs::read_to_string(path("back")).unwrap(), "from the host");
    assert_eq!(shown(), "box created");
    assert_eq!(run(), "from the hostfrom the host");

    // After it has run, and with archives as people have them.
    assert_eq!(shown(), "box exited");
    host.fcvm_with(["cp", "-", "box:/etc"], packed_by("gzip", "given", "compressed ")).ok();
    host.fcvm_with(["cp", "-", "box:/etc"], b"\xfd7zXZ\0 and so on".to_vec()).failed(125, "XZ stream");
    host.fcvm_with(["cp", "-", "box:/etc"], b"\x04\x22\x4d\x18 and so on".to_vec()).failed(125, "lz4 -dc");
    assert!(run().ends_with("compressed from the host"));
    let id = host.fcvm(["commit", "-q", "box", "committed"]).ok().text();
    assert_eq!(host.fcvm(["run", "--rm", &id, "cat", "/etc/given"]).ok().text(), "compressed ");

    // One that is killed leaves nothing but what was there, and the VM can be started.
    let (killed, mut stdout) = Started::streaming(host.command(["cp", "box:/bin", "-"]));
    stdout.read_exact(&mut [0; 512]).unwrap();
    killed.signal(9);
    assert_eq!(killed.finish().code, 137);
    assert_eq!(shown(), "box exited");
    host.await_silence();
    assert!(run().ends_with("compressed from the host"));
    host.fcvm(["rm", "box"]).ok();
    host.assert_clean();
}
