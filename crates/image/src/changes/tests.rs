use super::*;
use fcvm_erofs::{Attributes, Content, Limits, Writer};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};

/// A scratch disk whose upper layer is a directory's; made by mke2fs, without root.
fn disk(place: &Path, name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let (tree, disk) = (place.join(format!("{name}.d")), place.join(name));
    fs::create_dir_all(tree.join("upper")).unwrap();
    fill(&tree.join("upper"));
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-d"]).arg(&tree).arg(&disk).arg("2m");
    assert!(make.stdout(Stdio::null()).status().unwrap().success());
    disk
}

/// An image with `/etc/{passwd,group}` and `/bin/sh`.
fn image(place: &Path) -> PathBuf {
    let path = place.join("image.erofs");
    let output = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut writer = Writer::new(output, Limits::default()).unwrap();
    for (dir, names) in [("etc", &["group", "passwd"][..]), ("bin", &["sh"])] {
        let parent = writer.add(writer.root(), dir.as_bytes(), Attributes::default(), Content::Directory).unwrap();
        for name in names {
            let content = Content::File { size: 1, data: &mut &b"x"[..] };
            writer.add(parent, name.as_bytes(), Attributes::default(), content).unwrap();
        }
    }
    writer.finish([0; 16]).unwrap();
    path
}

fn deleted(path: &[u8]) -> Upper {
    Upper([(path.to_vec(), Written::Deleted)].into())
}

fn told(changes: &[ChangedFile]) -> Vec<(&str, Change)> {
    changes.iter().map(|file| (file.path.to_str().unwrap(), file.change)).collect()
}

#[test]
fn a_layer_is_told_from_its_image() {
    let place = tempfile::tempdir().unwrap();
    let image = image(place.path());
    let upper = Upper::read(&disk(place.path(), "disk", |upper| {
        fs::create_dir(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/passwd"), "y").unwrap();
        fs::write(upper.join("etc/new"), "y").unwrap();
    }));
    let changes = between(&image, &Upper::default(), &upper.unwrap()).unwrap();
    assert_eq!(told(&changes), [("/etc/new", Change::Added), ("/etc/passwd", Change::Changed)]);
}

#[test]
fn two_layers_are_told_from_each_other() {
    let place = tempfile::tempdir().unwrap();
    let image = image(place.path());
    let read = |name, fill: &dyn Fn(&Path)| Upper::read(&disk(place.path(), name, fill)).unwrap();
    let before = read("before", &|upper| {
        fs::create_dir(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/passwd"), "long").unwrap();
        fs::write(upper.join("gone"), "").unwrap();
        fs::write(upper.join("same"), "").unwrap();
        fs::File::open(upper.join("same")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    });
    let after = read("after", &|upper| {
        fs::create_dir(upper.join("etc")).unwrap();
        fs::set_permissions(upper.join("etc"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(upper.join("etc/passwd"), "longer").unwrap();
        fs::write(upper.join("same"), "").unwrap();
        fs::File::open(upper.join("same")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    });
    let expected = [("/etc", Change::Changed), ("/etc/passwd", Change::Changed), ("/gone", Change::Deleted)];
    assert_eq!(told(&between(&image, &before, &after).unwrap()), expected);
    assert_eq!(between(&image, &after, &after).unwrap(), []);
}

#[test]
fn what_is_deleted_hides_what_is_below() {
    let place = tempfile::tempdir().unwrap();
    let image = image(place.path());
    let inside = Upper::read(&disk(place.path(), "disk", |upper| {
        fs::create_dir(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/group"), "y").unwrap();
    }));
    let (inside, without) = (inside.unwrap(), deleted(b"etc"));
    let expected = [("/etc", Change::Deleted), ("/etc/group", Change::Deleted)];
    assert_eq!(told(&between(&image, &inside, &without).unwrap()), expected);
    let back = between(&image, &without, &inside).unwrap();
    assert_eq!(told(&back), [("/etc", Change::Added), ("/etc/group", Change::Added)]);
}

#[test]
fn an_image_s_own_file_deleted_or_put_back_is_told() {
    let place = tempfile::tempdir().unwrap();
    let image = image(place.path());
    let gone = between(&image, &Upper::default(), &deleted(b"bin/sh")).unwrap();
    assert_eq!(told(&gone), [("/bin/sh", Change::Deleted)]);
    assert_eq!(told(&between(&image, &deleted(b"bin/sh"), &Upper::default()).unwrap()), [("/bin/sh", Change::Added)]);
}

#[test]
fn a_damaged_disk_is_an_error_wherever_it_is_cut_or_changed() {
    let place = tempfile::tempdir().unwrap();
    let whole = disk(place.path(), "disk", |upper| fs::write(upper.join("file"), "").unwrap());
    let disk = File::options().read(true).write(true).open(&whole).unwrap();
    // No particular answer is wanted, but one.
    for place in (1024..disk.metadata().unwrap().len() / 4).step_by(509) {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, place).unwrap();
        disk.write_all_at(&[!byte[0]], place).unwrap();
        let _ = Upper::read(&whole);
        disk.write_all_at(&byte, place).unwrap();
    }
    for length in [4096, 1500, 1023, 0] {
        disk.set_len(length).unwrap();
        assert!(Upper::read(&whole).is_err(), "{length}");
    }
}
