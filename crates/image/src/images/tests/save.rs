use super::fixture::{Place, Sample, gzip, layer, options};
use crate::{Archive, ArchiveFormat, Digest, Image, Platform, Silent, disk_reader};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A layer with one of each kind, a file of two names, and a capability.
fn every_kind() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind, name: &str, target: &str, mode| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_uid(1000);
        header.set_gid(50);
        header.set_size(0);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        match target {
            "" => builder.append_data(&mut header, name, &b""[..]).unwrap(),
            target => builder.append_link(&mut header, name, target).unwrap(),
        }
    };
    add(tar::EntryType::Directory, "./", "", 0o700);
    add(tar::EntryType::Directory, "dir/", "", 0o1777);
    add(tar::EntryType::Regular, "dir/one", "", 0o4755);
    add(tar::EntryType::Link, "two", "dir/one", 0o4755);
    add(tar::EntryType::Symlink, "link", "/dir/one", 0o777);
    add(tar::EntryType::Char, "null", "", 0o666);
    add(tar::EntryType::Fifo, "fifo", "", 0o600);
    let long = format!("dir/{}", "n".repeat(200));
    builder
        .append_pax_extensions([("SCHILY.xattr.security.capability", &b"\x01\0\n\xff"[..]), ("path", long.as_bytes())])
        .unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(5000);
    header.set_mode(0o755);
    builder.append_data(&mut header, "short", &[7; 5000][..]).unwrap();
    builder.into_inner().unwrap()
}

/// An image of two layers with all that can be said of one.
fn loaded(place: &Place) -> Image {
    let mut sample = Sample::with(vec![every_kind(), layer(&[("etc/x", b"y")])], gzip, &Platform::host().architecture);
    let mut config: Value = serde_json::from_slice(&sample.config).unwrap();
    config["config"]["Healthcheck"] = json!({ "Test": ["CMD", "true"] });
    config["config"]["Labels"] = json!({ "a": "b" });
    config["history"] =
        json!([{ "created_by": "one" }, { "created_by": "ENV", "empty_layer": true }, { "created_by": "two" }]);
    sample.config = config.to_string().into_bytes();
    sample.write_docker_archive(&place.path("came.tar"), &["localhost/x:1"]);
    let images = place.images.load(Archive::File(&place.path("came.tar")), &options(), &Silent).unwrap();
    images.into_iter().next().unwrap()
}

fn save(place: &Place, image: &Image, format: ArchiveFormat, path: &Path) {
    place.images.pack(&[(image.clone(), vec!["localhost/x:2".into()])]).unwrap().write_file(format, path).unwrap();
}

fn load(place: &Place, path: &Path) -> Image {
    place.images.load(Archive::File(path), &options(), &Silent).unwrap().remove(0)
}

#[test]
fn an_image_is_the_same_after_it_was_saved_and_loaded() {
    let place = Place::new();
    let image = loaded(&place);
    let (said, files) = (place.images.store().configuration(&image).unwrap(), disk_reader::read(&image.disk));
    let files = |other: &Image| {
        let found = disk_reader::read(&other.disk);
        // Where a node is says nothing of it.
        for (path, was) in &files {
            let is = &found[path];
            assert_eq!((is.mode, is.owner, is.mtime, is.links), (was.mode, was.owner, was.mtime, was.links), "{path}");
            assert_eq!(is.xattrs, was.xattrs, "{path}");
            assert!(is.mode & 0o170_000 == 0o040_000 || is.data == was.data, "{path}");
        }
        assert_eq!(found["/two"].inode, found["/dir/one"].inode);
        assert_eq!(found.len(), files.len());
    };
    for (format, name) in [(ArchiveFormat::Docker, "docker.tar"), (ArchiveFormat::Oci, "oci.tar")] {
        save(&place, &image, format, &place.path(name));
        let other = load(&place, &place.path(name));
        files(&other);
        assert_eq!(other.names, ["localhost/x:2"]);
        let (was, is): (Value, Value) = (
            serde_json::from_str(&said).unwrap(),
            serde_json::from_str(&place.images.store().configuration(&other).unwrap()).unwrap(),
        );
        assert_eq!(is["config"], was["config"]);
        assert_eq!(is["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
        let lines = json!([
            { "created_by": "one", "empty_layer": true }, { "created_by": "ENV", "empty_layer": true }, { "created_by": "two" },
        ]);
        assert_eq!(is["history"], lines);
        // From then on it stays what it is; what has the name is replaced.
        save(&place, &other, format, &place.path("again.tar"));
        assert_eq!(load(&place, &place.path("again.tar")).digest, other.digest);
    }
    place.assert_clean();
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let place = Place::new();
    let image = loaded(&place);
    for format in [ArchiveFormat::Docker, ArchiveFormat::Oci] {
        let saved = ["one.tar", "two.tar"].map(|name| {
            save(&place, &image, format, &place.path(name));
            Digest::of(&fs::read(place.path(name)).unwrap())
        });
        assert_eq!(saved[0], saved[1]);
    }
}

#[test]
fn a_layout_appears_whole_and_where_nothing_is() {
    let place = Place::new();
    let image = loaded(&place);
    let bundle = place.images.pack(&[(image.clone(), vec!["quay.io/a/b:3".into()])]).unwrap();
    let dir = place.path("layout");
    bundle.write_layout(&dir).unwrap();
    assert_eq!(load(&place, &dir).names, ["quay.io/a/b:3"]);
    assert!(bundle.write_layout(&dir).is_err());
    assert!(bundle.write_file(ArchiveFormat::Docker, &dir).is_err());
    assert!(bundle.write_file(ArchiveFormat::Docker, &place.path("no/such/file")).is_err());
    let left: Vec<_> = fs::read_dir(place.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".fcvm-save-")), "{left:?}");
}

#[test]
fn several_images_are_in_one_archive_of_dockers() {
    let place = Place::new();
    let (image, other) = (loaded(&place), Sample::small());
    other.write_docker_archive(&place.path("other.tar"), &["localhost/y:1"]);
    let other = load(&place, &place.path("other.tar"));
    let names = |name: &str| vec![name.to_owned()];
    let wanted =
        [(image.clone(), names("localhost/x:3")), (other, names("localhost/y:2")), (image, names("localhost/z:1"))];
    place.images.pack(&wanted).unwrap().write_file(ArchiveFormat::Docker, &place.path("all.tar")).unwrap();
    let images = place.images.load(Archive::File(&place.path("all.tar")), &options(), &Silent).unwrap();
    let names: Vec<_> = images.into_iter().map(|image| image.names).collect();
    assert_eq!(names, [vec!["localhost/x:3", "localhost/z:1"], vec!["localhost/y:2"]]);
}
