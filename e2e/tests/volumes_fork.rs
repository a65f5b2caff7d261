//! Views of a directory that VMs have for themselves (`fork`), and trees that lie elsewhere when a snapshot goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_e2e::{BUSYBOX, Host, sh};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory of the host with files that hold their names.
fn tree(host: &Host, name: &str, files: &[&str]) -> PathBuf {
    let dir = host.path().join(name);
    for file in files {
        fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
        fs::write(dir.join(file), file).unwrap();
    }
    dir
}

fn read(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

#[test]
fn what_a_vm_writes_to_its_view_stays_with_it_until_it_is_applied() {
    let host = Host::new();
    let src = tree(&host, "src", &["kept", "edited", "gone", "old/deep/file", "replaced", "host"]);
    let vm = host.start("box", &["-v", &format!("{}:/src:fork", src.display()), BUSYBOX, "sleep", "1000"]);
    sh(
        &vm,
        "cd /src; cat replaced; echo -n vm > edited; rm gone; rm -r old; mkdir -p new/dir; echo -n vm > new/dir/file; \
         busybox mv kept moved; busybox chmod 600 edited; busybox chown 1000:50 edited; busybox ln -s moved link",
    );
    assert_eq!(read(&src, "edited").as_deref(), Some("edited"));
    assert!(src.join("old/deep/file").exists() && !src.join("new").exists());
    let diff = |args: &[&str]| host.fcvm(["volume", "diff"].iter().chain(args)).ok().text();
    let expected = "C /src/edited\nD /src/gone\nD /src/kept\nA /src/link\nA /src/moved\nA /src/new\nA /src/new/dir\nA /src/new/dir/file\nD /src/old";
    assert_eq!(diff(&["box:/src"]), expected);
    assert!(diff(&["--format", "json", "box:/src/"]).contains("\"deleted\""));
    host.fcvm(["volume", "diff", "box:/nope"]).failed(125, "has no volume with `fork` at /nope");
    host.fcvm(["volume", "diff", "box"]).failed(125, "VM:PATH is expected");

    // What the host replaces stays as it was first looked at; both touched one file, so nothing is applied.
    fs::write(src.join("next"), "of the host").unwrap();
    fs::rename(src.join("next"), src.join("replaced")).unwrap();
    assert_eq!(sh(&vm, "cat /src/replaced"), "replaced");
    fs::write(src.join("edited"), "of the host").unwrap();
    let apply = || host.fcvm(["volume", "apply", "box:/src"]);
    apply().failed(1, "a conflict, so nothing was applied");
    assert!(src.join("gone").exists() && !src.join("new").exists());
    assert_eq!(read(&src, "edited").as_deref(), Some("of the host"));

    // Where both have the same there is none.
    fs::write(src.join("edited"), "vm").unwrap();
    fs::set_permissions(src.join("edited"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(apply().ok().text(), expected.replace("C /src/edited\n", ""));
    assert!(!src.join("gone").exists() && !src.join("old").exists() && !src.join("kept").exists());
    assert_eq!((read(&src, "moved"), read(&src, "new/dir/file")), (Some("kept".into()), Some("vm".into())));
    assert_eq!(fs::read_link(src.join("link")).unwrap(), Path::new("moved"));
    // What was applied is no change of the host's.
    sh(&vm, "echo -n more > /src/new/dir/file");
    assert_eq!(apply().ok().text(), "C /src/new/dir/file");
    assert_eq!(read(&src, "new/dir/file").as_deref(), Some("more"));

    // Another machine of the same VM has the same view.
    host.fcvm(["restart", "-t", "0", "box"]).ok();
    assert_eq!(
        sh(&vm, "cd /src; echo late > late; cat edited; ls"),
        "vmedited\nhost\nlate\nlink\nmoved\nnew\nreplaced"
    );
    // What is a change of a view is seen where both sides of it are mounted.
    host.fcvm(["stop", "-t", "0", "box"]).ok();
    for verb in ["diff", "apply"] {
        host.fcvm(["volume", verb, "box:/src"]).failed(125, "VM box is not running");
    }
    host.fcvm(["rm", "box"]).ok();
    assert!(!src.join("late").exists());
    host.assert_clean();
}

#[test]
fn a_clone_has_the_view_of_the_snapshot_and_a_tree_that_lies_elsewhere() {
    let host = Host::new();
    let (src, other) = (tree(&host, "src", &["a", "b"]), tree(&host, "other", &["file"]));
    let volumes = [format!("{}:/src:fork", src.display()), format!("{}:/other", other.display())];
    let follow = "exec 3</other/file; cd /src; while :; do cat a; sleep 1; done";
    let args = ["-v", &volumes[0], "-v", &volumes[1], "-v", "/own", BUSYBOX, "sh", "-c", follow];
    let source = host.start("source", &args);
    sh(&source, "echo before > /src/a; echo mine > /own/file");
    host.fcvm(["snapshot", "create", "source", "--tag", "s"]).ok();
    sh(&source, "echo after > /src/a; echo after > /own/file");
    let moved = host.path().join("moved");
    fs::rename(&other, &moved).unwrap();
    let run = |args: &[&str]| host.fcvm(["snapshot", "run", "s", "-d"].iter().chain(args));
    run(&[]).failed(125, &format!("--map-from {}=NEW", other.display()));
    run(&["--map-from", "/nope=/tmp"]).failed(125, "the snapshot has no volume there");
    let map = format!("{}={}", other.display(), moved.display());
    let receipt = run(&["--name", "clone", "--map-from", &map]).ok();
    assert!(receipt.stderr.contains("2 volumes answer"), "{receipt:?}");
    let clone = host.vm("clone");
    assert_eq!(sh(&clone, "cat /src/a /own/file /src/b /other/file"), "before\nmine\nbfile");
    assert_eq!(sh(&clone, "cat /proc/1/fd/3"), "file");
    sh(&clone, "echo clone > /src/b; echo seen > /other/new");
    assert_eq!(sh(&source, "cat /src/a /own/file /src/b"), "after\nafter\nb");
    assert_eq!(fs::read_to_string(moved.join("new")).unwrap(), "seen\n");
    assert_eq!(host.fcvm(["volume", "diff", "clone:/src"]).ok().text(), "C /src/a\nC /src/b");
    host.fcvm(["volume", "apply", "source:/src"]).ok();
    // The other one's changes are the host's now, and so a conflict.
    host.fcvm(["volume", "apply", "clone:/src"]).failed(1, "conflict");
    assert_eq!((read(&src, "a").as_deref(), read(&src, "b").as_deref()), (Some("after\n"), Some("b")));
    host.fcvm(["rm", "-f", "-t", "0", "source", "clone"]).ok();
    host.fcvm(["snapshot", "rm", "s"]).ok();
    host.assert_clean();
}
