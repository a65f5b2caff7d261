//! Trees that are packed and unpacked again, places as podman chooses them, and streams that mean harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fcvm_archive::{
    Coming, Conflict, Error, Holes, Limits, Manner, Owner, Packable, Place, Root, Trust, Unpacked, Writing, unpack,
};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const MANNER: Manner = Manner {
    owner: Owner::Own,
    conflict: Conflict::Refused,
    trust: Trust::None,
    limits: Limits { entries: 1000, bytes: 1 << 20 },
    writing: Writing::Cached,
};

fn pack(dir: &TempDir, path: &str, holes: Holes) -> Vec<u8> {
    let packable = Packable::find(&Root::open(dir.path()).unwrap(), Path::new(path)).unwrap();
    packable.pack(OsStr::new("."), holes, Vec::new()).unwrap()
}

fn named(dir: &TempDir, name: &str, holes: Holes) -> Vec<u8> {
    let packable = Packable::find(&Root::open(dir.path()).unwrap(), Path::new(name)).unwrap();
    packable.pack(OsStr::new(name), holes, Vec::new()).unwrap()
}

#[test]
fn large_files_are_the_same_past_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    for (name, length) in [("blocks", 17 << 20), ("odd", (20 << 20) + 4097), ("small", 5)] {
        let bytes: Vec<u8> = (0..length).map(|index: u32| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    // Its data begins where direct reads do, and ends where they do not.
    let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
    sparse.write_all_at(&vec![7; (16 << 20) + 5], 0).unwrap();
    sparse.write_all_at(b"end", 64 << 20).unwrap();
    for holes in [Holes::Told, Holes::Filled] {
        let find = || Packable::find(&Root::open(dir.path()).unwrap(), Path::new(".")).unwrap();
        let cached = find().pack(OsStr::new("."), holes, Vec::new()).unwrap();
        assert!(find().past_the_cache().pack(OsStr::new("."), holes, Vec::new()).unwrap() == cached, "{holes:?}");
    }
}

fn place(dir: &TempDir, path: &str, coming: Coming<'_>) -> Result<Place, Error> {
    Place::find(&Root::open(dir.path()).unwrap(), Path::new(path), coming)
}

fn put(stream: &[u8], dir: &TempDir, path: &str, coming: Coming<'_>) -> Result<Unpacked, Error> {
    unpack(stream, place(dir, path, coming)?, &MANNER)
}

fn directory(name: &str) -> Coming<'_> {
    Coming::Directory(OsStr::new(name))
}

fn file(name: &str) -> Coming<'_> {
    Coming::File(OsStr::new(name))
}

fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// A directory `d` with files, links, modes, times and long names.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("d");
    fs::create_dir_all(top.join("sub/deep")).unwrap();
    fs::write(top.join("file"), "one").unwrap();
    fs::set_permissions(top.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(top.join("file"), top.join("sub/again")).unwrap();
    symlink("../file", top.join("sub/link")).unwrap();
    symlink("/nowhere", top.join("dangling")).unwrap();
    fs::write(top.join("sub/deep").join("n".repeat(200)), "long").unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"middle", 32 << 20).unwrap();
    // GNU tar takes a file without blocks for one without data.
    sparse.sync_all().unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 250_000_000);
    fs::File::open(top.join("file")).unwrap().set_modified(old).unwrap();
    fs::set_permissions(top.join("sub"), fs::Permissions::from_mode(0o555)).unwrap();
    dir
}

#[test]
fn a_tree_comes_out_as_it_went_in() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let stream = pack(&from, "d", Holes::Told);
    assert!(stream.len() < 1 << 20, "the holes do not travel");
    put(&stream, &to, "copy", directory("d")).unwrap();
    let (one, other) = (from.path().join("d"), to.path().join("copy"));
    let state = |path: &Path| {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.mode(), metadata.len(), metadata.nlink(), metadata.mtime(), metadata.mtime_nsec())
    };
    for name in ["file", "sub/again", "sub/link", "dangling", "sparse", "sub"] {
        let (mut before, mut after) = (state(&one.join(name)), state(&other.join(name)));
        if name == "sub" {
            (before.1, after.1) = (0, 0);
        }
        assert_eq!(before, after, "{name}");
    }
    assert_eq!(other.join("file").metadata().unwrap().ino(), other.join("sub/again").metadata().unwrap().ino());
    assert_eq!(text(other.join("sub/deep").join("n".repeat(200))), "long");
    assert_eq!(fs::read(one.join("sparse")).unwrap(), fs::read(other.join("sparse")).unwrap());
    assert!(other.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn other_programs_read_what_is_packed_and_their_archives_are_read() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    for holes in [Holes::Told, Holes::Filled] {
        let mut tar = Command::new("tar").args(["xf", "-", "-C"]).arg(to.path()).stdin(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&named(&from, "d", holes)).unwrap();
        assert!(tar.wait().unwrap().success());
        let same = Command::new("diff")
            .args(["-r", "--no-dereference"])
            .arg(from.path().join("d"))
            .arg(to.path().join("d"))
            .status();
        assert!(same.unwrap().success());
    }
    let packed = Command::new("tar").args(["cSf", "-", "-C"]).arg(from.path()).arg("d").output().unwrap().stdout;
    let back = tempfile::tempdir().unwrap();
    put(&packed, &back, "/", Coming::Archive).unwrap();
    let same = Command::new("diff").args(["-r", "--no-dereference"]).arg(from.path()).arg(back.path()).status();
    assert!(same.unwrap().success());
}

#[test]
fn copies_go_where_podman_has_them() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let (one, all) = (pack(&from, "d/file", Holes::Told), pack(&from, "d", Holes::Told));
    let at = |path: &str| to.path().join(path);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("old"), "old").unwrap();
    symlink("dir", at("to-dir")).unwrap();
    symlink("not-yet", at("to-nothing")).unwrap();
    put(&one, &to, "new", file("file")).unwrap();
    put(&one, &to, "old", file("file")).unwrap();
    put(&one, &to, "dir", file("file")).unwrap();
    put(&one, &to, "to-dir/", file("named")).unwrap();
    put(&one, &to, "to-nothing", file("file")).unwrap();
    for path in ["new", "old", "dir/file", "dir/named", "not-yet"] {
        assert_eq!(text(at(path)), "one", "{path}");
    }
    put(&all, &to, "made", directory("d")).unwrap();
    put(&all, &to, "made", directory("d")).unwrap();
    put(&all, &to, "made/.", directory("e")).unwrap();
    put(&all, &to, "dir", Coming::Contents).unwrap();
    put(&all, &to, "contents", Coming::Contents).unwrap();
    for path in ["made/file", "made/d/file", "made/e/file", "dir/file", "contents/file"] {
        assert_eq!(text(at(path)), "one", "{path}");
    }
    for (path, coming) in
        [("none/", file("x")), ("no/where", file("x")), ("none", Coming::Archive), ("none/", directory("d"))]
    {
        let error = place(&to, path, coming).unwrap_err();
        assert!(
            matches!(&error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
            "{error}"
        );
    }
    for coming in [directory("d"), Coming::Contents, Coming::Archive] {
        assert!(matches!(place(&to, "old", coming), Err(Error::Conflict { .. })));
    }
    assert!(place(&to, "old/", file("x")).is_err());
}

#[test]
fn a_file_and_a_directory_trade_places_only_where_that_is_wanted() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    fs::create_dir_all(to.path().join("d/file/below")).unwrap();
    fs::write(to.path().join("d/sub"), "").unwrap();
    let stream = pack(&from, "d", Holes::Told);
    assert!(matches!(put(&stream, &to, "/", directory("d")), Err(Error::Conflict { .. })));
    let replaced = Manner { conflict: Conflict::Replaced, ..MANNER };
    unpack(stream.as_slice(), place(&to, "/", directory("d")).unwrap(), &replaced).unwrap();
    assert_eq!(text(to.path().join("d/file")), "one");
    assert_eq!(text(to.path().join("d/sub/again")), "one");
}

/// An entry of a hostile archive, made by hand: an honest library refuses some of these names.
fn hostile(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (kind, name, target) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6755);
        header.set_size(if kind.is_file() { target.len() as u64 } else { 0 });
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        if !kind.is_file() {
            old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        }
        header.set_cksum();
        let data = if kind.is_file() { target.as_bytes() } else { b"" };
        archive.append(&header, data).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn nothing_outside_of_the_target_is_touched() {
    use tar::EntryType::{Link, Regular, Symlink};
    for entries in [
        &[(Regular, "../evil", "x")][..],
        &[(Regular, "a/../../evil", "x")],
        &[(Regular, "/evil", "x")],
        &[(Symlink, "l", ".."), (Regular, "l/evil", "x")],
        &[(Symlink, "l", "/"), (Regular, "l/evil", "x")],
        &[(Symlink, "l", "../outside"), (Regular, "l", "x")],
        &[(Symlink, "l", "a/../.."), (Regular, "l/sub/evil", "x")],
        &[(Link, "l", "../outside"), (Regular, "l", "x")],
        &[(Link, "l", "/outside"), (Regular, "l", "x")],
        &[(Symlink, "s", "../outside"), (Link, "l", "s"), (Regular, "l", "x")],
        &[(Symlink, "l", "/proc/self/root"), (Regular, "l/tmp/evil", "x")],
    ] {
        for (path, coming) in
            [("t", Coming::Archive), ("t", directory("d")), ("t", file("f")), ("t/new", directory("d"))]
        {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("outside"), "safe").unwrap();
            fs::create_dir(dir.path().join("t")).unwrap();
            let _refused_or_harmless = put(&hostile(entries), &dir, path, coming);
            assert_eq!(text(dir.path().join("outside")), "safe", "{entries:?}");
            let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["outside", "t"], "{entries:?}");
        }
    }
}

#[test]
fn what_is_copied_under_a_name_stays_under_that_name() {
    use tar::EntryType::{Directory, Regular};
    let dir = tempfile::tempdir().unwrap();
    let both = hostile(&[(Regular, ".", "x"), (Regular, ".bashrc", "evil")]);
    assert!(matches!(put(&both, &dir, "/", file("f")), Err(Error::Hostile { .. })));
    assert!(!dir.path().join(".bashrc").exists());
    let tree = hostile(&[(Directory, ".", ""), (Regular, ".bashrc", "fine")]);
    put(&tree, &dir, "/", directory("d")).unwrap();
    assert_eq!(text(dir.path().join("d/.bashrc")), "fine");
}

#[test]
fn streams_that_are_not_trusted_bring_no_devices_and_no_rights() {
    use tar::EntryType::{Char, Directory, Regular};
    let dir = tempfile::tempdir().unwrap();
    let stream = hostile(&[(Directory, ".", ""), (Regular, "suid", "x"), (Char, "null", "")]);
    assert_eq!(put(&stream, &dir, "d", directory("d")).unwrap(), Unpacked { left_out: 1 });
    assert_eq!(dir.path().join("d/suid").metadata().unwrap().mode() & 0o7777, 0o755);
    assert!(!dir.path().join("d/null").exists());
}

#[test]
fn a_stream_is_bounded_in_entries_and_bytes() {
    use tar::EntryType::Regular;
    let dir = tempfile::tempdir().unwrap();
    let stream = hostile(&[(Regular, "a", "12345"), (Regular, "b", "12345")]);
    for limits in [Limits { entries: 1, bytes: 100 }, Limits { entries: 2, bytes: 9 }] {
        let refused =
            unpack(stream.as_slice(), place(&dir, "/", Coming::Archive).unwrap(), &Manner { limits, ..MANNER });
        assert!(matches!(refused, Err(Error::Hostile { .. })), "{refused:?}");
    }
}

#[test]
fn a_stream_that_is_cut_anywhere_is_an_error_or_an_archive() {
    let (from, to) = (tree(), tempfile::tempdir().unwrap());
    let stream = pack(&from, "d", Holes::Told);
    let whole = unpack(stream.as_slice(), place(&to, "/", directory("d")).unwrap(), &MANNER);
    assert!(whole.is_ok());
    for length in (0..stream.len()).step_by(97) {
        let cut = tempfile::tempdir().unwrap();
        let _no_particular_answer = put(&stream[..length], &cut, "/", directory("d"));
    }
}

#[test]
fn what_is_no_file_and_no_directory_is_neither_source_nor_target() {
    let dir = tempfile::tempdir().unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert!(matches!(Packable::find(&root, Path::new("pipe")), Err(Error::Neither(_))));
    assert!(matches!(place(&dir, "pipe", file("f")), Err(Error::Neither(_))));
}

#[test]
fn links_of_a_source_lead_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(outside.path().join("secret"), dir.path().join("link")).unwrap();
    symlink("/in", dir.path().join("inside")).unwrap();
    fs::write(dir.path().join("in"), "in").unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert!(Packable::find(&root, Path::new("link")).is_err());
    assert!(Packable::find(&root, Path::new("../../../etc/passwd")).is_err());
    let stream = pack(&dir, "inside", Holes::Told);
    let mut found = Vec::new();
    tar::Archive::new(stream.as_slice()).entries().unwrap().next().unwrap().unwrap().read_to_end(&mut found).unwrap();
    assert_eq!(found, b"in");
}

#[test]
fn what_is_written_past_the_cache_is_the_same() {
    for length in [0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (2 << 20) + 4096, (2 << 20) + 5] {
        // Not every file system can: the target is beside the build, which is on a disk.
        let to = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let from = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..length).map(|place: u32| (place.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(from.path().join("f"), &bytes).unwrap();
        let manner = Manner { writing: Writing::Direct, limits: Limits { entries: 1, bytes: 1 << 24 }, ..MANNER };
        let stream = pack(&from, "f", Holes::Told);
        unpack(stream.as_slice(), place(&to, "f", file("f")).unwrap(), &manner).unwrap();
        assert!(fs::read(to.path().join("f")).unwrap() == bytes, "{length}");
    }
}
