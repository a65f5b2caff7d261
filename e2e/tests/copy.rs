//! Stories of `cp`: files that go into containers and come out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

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
