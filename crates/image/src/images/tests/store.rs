use super::fixture::{Place, Sample, layer, options};
use crate::{Archive, Error, Image, ImageStore, Prune, Silent};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn load(place: &Place, sample: &Sample, names: &[&str]) -> Image {
    let path = place.path("load.tar");
    sample.write_docker_archive(&path, names);
    place.images.load(Archive::File(&path), &options(), &Silent).unwrap().remove(0)
}

#[test]
fn images_are_found_by_name_and_by_the_beginning_of_their_id() {
    let place = Place::new();
    let one = load(&place, &Sample::small(), &["a:1"]);
    let two = load(&place, &Sample::new(vec![layer(&[("x", b"")])]), &["b:1"]);
    let store = place.images.store();
    assert_eq!(store.list().unwrap().len(), 2);
    assert_eq!(store.lookup("b:1").unwrap(), two);
    assert_eq!(store.lookup(&one.digest[..20]).unwrap(), one);
    for name in ["b", "ab", "sha256:", "../x", "sha256:../../x"] {
        assert!(matches!(store.lookup(name), Err(Error::NotFound { .. })), "{name}");
    }
}

#[test]
fn a_name_that_moves_leaves_its_old_image_dangling_for_prune() {
    let place = Place::new();
    let old = load(&place, &Sample::small(), &["a:1"]);
    let new = load(&place, &Sample::new(vec![]), &["a:1"]);
    let store = place.images.store();
    assert_eq!(store.lookup("a:1").unwrap().digest, new.digest);
    assert_eq!(store.lookup(&old.digest).unwrap().names, Vec::<String>::new());
    let removed = store.prune(Prune::Dangling).unwrap();
    assert_eq!(removed.deleted, [old.digest]);
    assert_eq!(store.list().unwrap(), [new]);
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let place = Place::new();
    let image = load(&place, &Sample::small(), &["a:1", "b:1"]);
    let store = place.images.store();
    let first = store.remove("a:1").unwrap();
    assert_eq!((first.untagged, first.deleted), (vec!["localhost/a:1".into()], vec![]));
    let last = store.remove("localhost/b:1").unwrap();
    assert_eq!((last.untagged, last.deleted), (vec!["localhost/b:1".into()], vec![image.digest]));
    assert!(!image.disk.exists());
    assert!(matches!(store.remove("b:1"), Err(Error::NotFound { .. })));
    place.assert_clean();
}

#[test]
fn an_image_in_use_stays() {
    let place = Place::new();
    let image = load(&place, &Sample::small(), &["a:1"]);
    let store = place.images.store();
    let (one, two) = (store.hold(&image).unwrap(), store.hold(&image).unwrap());
    drop(one);
    assert!(matches!(store.remove("a:1"), Err(Error::InUse { .. })));
    assert!(matches!(store.remove(&image.digest), Err(Error::InUse { .. })));
    assert_eq!(store.prune(Prune::Unused).unwrap().deleted, Vec::<String>::new());
    drop(two);
    assert_eq!(store.prune(Prune::Unused).unwrap().deleted, std::slice::from_ref(&image.digest));
    assert!(matches!(store.hold(&image), Err(Error::NotFound { .. })));
}

#[test]
fn what_killed_processes_left_is_cleared() {
    let place = Place::new();
    let hex = "a".repeat(64);
    fs::create_dir(place.path("images/new").join(&hex)).unwrap();
    fs::write(place.path("images/new").join(&hex).join("disk.erofs"), "half").unwrap();
    fs::create_dir(place.path("images/new/scratch-1-0")).unwrap();
    fs::write(place.path("images/locks").join(&hex), "").unwrap();
    fs::write(place.path("images/partial").join(&hex), "half").unwrap();
    ImageStore::open(&place.path("images")).unwrap();
    assert_eq!((place.listing("new").len(), place.listing("locks").len(), place.listing("partial").len()), (0, 0, 1));
    place.images.store().prune(Prune::Dangling).unwrap();
    place.assert_clean();
}

#[test]
fn parallel_loads_of_one_image_do_the_work_once() {
    let (place, sample) = (Place::new(), Sample::small());
    let path = place.path("load.tar");
    sample.write_docker_archive(&path, &["a:1"]);
    let images: Vec<Image> = std::thread::scope(|scope| {
        let load = || place.images.load(Archive::File(&path), &options(), &Silent).unwrap().remove(0);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(images.iter().all(|image| image.digest == sample.id() && image.made == images[0].made));
    assert_eq!(place.images.store().list().unwrap().len(), 1);
    place.assert_clean();
}

#[test]
fn disks_may_be_read_by_an_unprivileged_monitor_and_records_not() {
    let place = Place::new();
    let image = load(&place, &Sample::small(), &["a:1"]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = image.disk.parent().unwrap();
    assert_eq!((mode(&image.disk), mode(dir), mode(dir.parent().unwrap())), (0o644, 0o711, 0o711));
    assert_eq!((mode(&dir.join("image.json")), mode(&place.path("images/partial"))), (0o600, 0o700));
}

#[test]
fn a_damaged_record_and_index_are_named() {
    let place = Place::new();
    let image = load(&place, &Sample::small(), &["a:1"]);
    fs::write(image.disk.with_file_name("image.json"), "{").unwrap();
    let error = place.images.store().lookup("a:1").unwrap_err();
    assert!(matches!(error, Error::Configuration { .. }), "{error}");
    fs::write(place.path("images/names.json"), "[").unwrap();
    assert!(matches!(place.images.store().lookup("a:1"), Err(Error::Configuration { .. })));
}

#[test]
fn a_place_that_cannot_be_a_directory_is_an_error() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    assert!(matches!(ImageStore::open(&place.path("file/images")), Err(Error::File { .. })));
}

#[test]
fn what_is_being_made_is_not_cleared() {
    let place = Place::new();
    let scratch = place.images.store().scratch().unwrap();
    place.images.store().prune(Prune::Dangling).unwrap();
    assert!(scratch.path().is_dir());
    drop(scratch);
    place.assert_clean();
}
