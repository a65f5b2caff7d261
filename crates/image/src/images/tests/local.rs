use super::fixture::{Place, Sample, descriptor, gzip, layer, options, tar_of};
use crate::{Archive, Digest, Error, Limits, PullOptions, PullPolicy, Silent, disk_reader};
use serde_json::json;
use std::fs;

fn paths(image: &crate::Image) -> Vec<String> {
    disk_reader::read(&image.disk).into_keys().collect()
}

const SMALL: [&str; 5] = ["/", "/bin", "/bin/sh", "/etc", "/etc/x"];

#[test]
fn a_layout_becomes_a_disk_once() {
    let (place, sample) = (Place::new(), Sample::small());
    sample.write_layout(&place.path("layout"), "v1");
    let reference = format!("oci:{}:v1", place.path("layout").display());
    let image = place.images.ensure(&reference, &options(), &Silent).unwrap();
    assert_eq!(
        (image.digest.clone(), image.manifest.clone()),
        (sample.id(), Some(sample.manifest_digest().to_string()))
    );
    assert_eq!(paths(&image), SMALL);
    assert_eq!(image.config.config().as_ref().unwrap().cmd().clone().unwrap(), ["sh"]);
    assert!(image.names[0].starts_with("localhost/") && image.names[0].ends_with("/layout:v1"), "{:?}", image.names);
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let first = inode(&image.disk);
    let again = place.images.ensure(&reference, &options(), &Silent).unwrap();
    assert_eq!((again.clone(), inode(&again.disk)), (image, first));
    place.assert_clean();
}

#[test]
fn a_layout_of_several_images_wants_a_tag() {
    let (place, sample) = (Place::new(), Sample::small());
    let entry = |tag: &str| {
        let mut entry = descriptor(&sample.manifest, "");
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        entry
    };
    sample.write_layout_with(&place.path("layout"), &[entry("a"), entry("b")]);
    let reference = format!("oci:{}", place.path("layout").display());
    let error = place.images.ensure(&reference, &options(), &Silent).unwrap_err();
    assert!(error.to_string().contains("a, b"), "{error}");
    assert!(place.images.ensure(&format!("{reference}:b"), &options(), &Silent).is_ok());
    let error = place.images.ensure(&format!("{reference}:c"), &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
}

#[test]
fn the_index_within_a_layout_is_searched_by_platform() {
    let (place, sample) = (Place::new(), Sample::small());
    let foreign = Sample::with(vec![], gzip, "s390x");
    let mut index = json!({ "schemaVersion": 2, "manifests": [descriptor(&foreign.manifest, ""), descriptor(&sample.manifest, "")] });
    index["manifests"][0]["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    index["manifests"][1]["platform"] = json!({ "os": "linux", "architecture": crate::Platform::host().architecture });
    let index = index.to_string().into_bytes();
    let dir = place.path("layout");
    foreign.write_layout(&dir, "x");
    sample.write_layout_with(&dir, &[descriptor(&index, "")]);
    fs::write(dir.join("blobs/sha256").join(Digest::of(&index).hex()), &index).unwrap();
    let reference = format!("oci:{}", dir.display());
    assert_eq!(place.images.ensure(&reference, &options(), &Silent).unwrap().digest, sample.id());
    let other = PullOptions { platform: "linux/s390x".parse().unwrap(), ..options() };
    assert_eq!(place.images.ensure(&reference, &other, &Silent).unwrap().digest, foreign.id());
    let absent = PullOptions { platform: "linux/riscv64".parse().unwrap(), ..options() };
    let error = place.images.ensure(&reference, &absent, &Silent).unwrap_err();
    assert!(matches!(error, Error::WrongPlatform { available, .. } if available.len() == 2));
}

#[test]
fn an_image_of_another_architecture_is_refused() {
    let (place, sample) = (Place::new(), Sample::with(vec![], gzip, "mips64le"));
    sample.write_layout(&place.path("layout"), "x");
    let reference = format!("oci:{}", place.path("layout").display());
    let error = place.images.ensure(&reference, &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::WrongPlatform { .. }), "{error}");
    assert_eq!(place.images.store().list().unwrap(), []);
}

#[test]
fn archives_of_docker_are_loaded_with_their_names() {
    let (place, sample) = (Place::new(), Sample::small());
    let path = place.path("image.tar");
    sample.write_docker_archive(&path, &["demo:1", "quay.io/a/b:2"]);
    let images = place.images.load(Archive::File(&path), &options(), &Silent).unwrap();
    assert_eq!(images[0].names, ["localhost/demo:1", "quay.io/a/b:2"]);
    assert_eq!((images[0].digest.clone(), paths(&images[0])), (sample.id(), SMALL.map(String::from).to_vec()));
    for reference in ["demo:1", "localhost/demo:1", "quay.io/a/b:2", &sample.id()[7..19], &sample.id()] {
        let never = PullOptions { policy: PullPolicy::Never, ..options() };
        assert_eq!(place.images.ensure(reference, &never, &Silent).unwrap().digest, sample.id(), "{reference}");
    }
    let reference = format!("docker-archive:{}:demo:1", path.display());
    assert_eq!(place.images.ensure(&reference, &options(), &Silent).unwrap().digest, sample.id());
    let missing = place.images.ensure(&format!("docker-archive:{}:other", path.display()), &options(), &Silent);
    assert!(matches!(missing, Err(Error::NotFound { .. })));
    place.assert_clean();
}

#[test]
fn compressed_archives_and_pipes_are_spooled() {
    let (place, sample) = (Place::new(), Sample::small());
    let (plain, packed) = (place.path("image.tar"), place.path("image.tar.gz"));
    sample.write_docker_archive(&plain, &["demo:1"]);
    fs::write(&packed, gzip(&fs::read(&plain).unwrap())).unwrap();
    let images = place.images.load(Archive::File(&packed), &options(), &Silent).unwrap();
    assert_eq!(images[0].digest, sample.id());
    place.images.store().remove("demo:1").unwrap();
    let mut stream = &fs::read(&packed).unwrap()[..];
    let images = place.images.load(Archive::Stream(&mut stream), &options(), &Silent).unwrap();
    assert_eq!(images[0].digest, sample.id());
    let limits = Limits { unpacked: 1000, ..Limits::default() };
    let bounded = PullOptions { limits, ..options() };
    assert!(matches!(place.images.load(Archive::File(&packed), &bounded, &Silent), Err(Error::Malformed { .. })));
    place.assert_clean();
}

#[test]
fn oci_archives_are_loaded_whatever_their_layers_are_packed_with() {
    let plain = vec![layer(&[("a", b"1")]), layer(&[("b", b"2")])];
    for pack in [gzip, |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap(), |bytes: &[u8]| bytes.to_vec()] {
        let (place, sample) = (Place::new(), Sample::with(plain.clone(), pack, &crate::Platform::host().architecture));
        sample.write_layout(&place.path("layout"), "docker.io/library/demo:7");
        let path = place.path("layout.tar");
        tar_of(&place.path("layout"), &path);
        let images = place.images.load(Archive::File(&path), &options(), &Silent).unwrap();
        assert_eq!(
            (paths(&images[0]), images[0].names.clone()),
            (vec!["/".into(), "/a".into(), "/b".into()], vec!["docker.io/library/demo:7".into()])
        );
        let reference = format!("oci-archive:{}", path.display());
        assert_eq!(place.images.ensure(&reference, &options(), &Silent).unwrap().digest, sample.id());
    }
}

#[test]
fn a_blob_that_is_not_the_promised_one_leaves_nothing() {
    let sample = Sample::small();
    let other = gzip(&layer(&[("evil", b"x")]));
    let mut longer = sample.layers[1].clone();
    longer.push(0);
    for wrong in [other, longer, b"garbage".to_vec(), sample.layers[1][..40].to_vec()] {
        let place = Place::new();
        let dir = place.path("layout");
        sample.write_layout(&dir, "x");
        fs::write(dir.join("blobs/sha256").join(Digest::of(&sample.layers[1]).hex()), wrong).unwrap();
        let error = place.images.ensure(&format!("oci:{}", dir.display()), &options(), &Silent).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
        assert_eq!(place.images.store().list().unwrap(), []);
        place.assert_clean();
    }
}

#[test]
fn a_layer_that_the_configuration_does_not_name_is_refused() {
    let (place, mut sample) = (Place::new(), Sample::small());
    let other = Sample::new(vec![layer(&[("evil", b"x")]), layer(&[])]);
    // A true configuration with another image's layers: digests of blobs are all right, those of the contents are not.
    let mut manifest: serde_json::Value = serde_json::from_slice(&sample.manifest).unwrap();
    manifest["layers"] = serde_json::from_slice::<serde_json::Value>(&other.manifest).unwrap()["layers"].clone();
    sample.manifest = manifest.to_string().into_bytes();
    sample.layers = other.layers;
    sample.write_layout(&place.path("layout"), "x");
    let reference = format!("oci:{}", place.path("layout").display());
    let error = place.images.ensure(&reference, &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    place.assert_clean();
}

#[test]
fn a_bomb_ends_at_the_limit_and_leaves_nothing() {
    let place = Place::new();
    let sample = Sample::new(vec![layer(&[("zeros", &vec![0; 8 << 20])])]);
    sample.write_layout(&place.path("layout"), "x");
    let reference = format!("oci:{}", place.path("layout").display());
    let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
    let error = place.images.ensure(&reference, &PullOptions { limits, ..options() }, &Silent).unwrap_err();
    assert!(matches!(error, Error::Hostile { .. }), "{error}");
    place.assert_clean();
}

#[test]
fn what_is_not_there_is_not_found() {
    let place = Place::new();
    for reference in ["oci:/absent", "oci-archive:/absent", "docker-archive:/absent", "dir:/absent"] {
        let error = place.images.ensure(reference, &options(), &Silent).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
    }
    let never = PullOptions { policy: PullPolicy::Never, ..options() };
    for reference in ["busybox", "quay.io/a", "localhost/x", "abcdef123456"] {
        assert!(matches!(place.images.ensure(reference, &never, &Silent), Err(Error::NotFound { .. })), "{reference}");
    }
    let error = place.images.ensure("localhost/x", &options(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Program { .. }), "{error}");
}

#[test]
fn a_dir_of_blobs_is_read() {
    let (place, sample) = (Place::new(), Sample::small());
    let dir = place.path("dir");
    fs::create_dir(&dir).unwrap();
    for blob in sample.blobs() {
        fs::write(dir.join(Digest::of(blob).hex()), blob).unwrap();
    }
    fs::write(dir.join("manifest.json"), &sample.manifest).unwrap();
    let image = place.images.ensure(&format!("dir:{}", dir.display()), &options(), &Silent).unwrap();
    assert_eq!((image.digest.clone(), paths(&image)), (sample.id(), SMALL.map(String::from).to_vec()));
}

#[test]
fn a_directory_becomes_a_disk_by_its_key() {
    let place = Place::new();
    let dir = place.path("rootfs");
    fs::create_dir_all(dir.join("d")).unwrap();
    fs::write(dir.join("d/f"), "x").unwrap();
    fs::hard_link(dir.join("d/f"), dir.join("g")).unwrap();
    std::os::unix::fs::symlink("g", dir.join("l")).unwrap();
    let key = crate::directory_key(&dir).unwrap();
    let image = place.images.import_directory(&dir, &key, &options()).unwrap();
    let tree = disk_reader::read(&image.disk);
    assert_eq!(paths(&image), ["/", "/d", "/d/f", "/g", "/l"]);
    assert_eq!((tree["/g"].inode, tree["/g"].links, &tree["/g"].data[..]), (tree["/d/f"].inode, 2, &b"x"[..]));
    fs::write(dir.join("new"), "y").unwrap();
    assert_eq!(place.images.import_directory(&dir, &key, &options()).unwrap(), image);
    let changed = crate::directory_key(&dir).unwrap();
    assert_ne!(changed, key);
    assert_ne!(place.images.import_directory(&dir, &changed, &options()).unwrap().digest, image.digest);
    place.assert_clean();
}
