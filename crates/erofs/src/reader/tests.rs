use super::*;
use crate::{Attributes, Content, Limits, Writer};

/// An image with `/file`, an empty directory, and one of as many entries as take several blocks.
fn image() -> File {
    let output = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(output.try_clone().unwrap(), Limits::default()).unwrap();
    let root = writer.root();
    let mut add = |dir, name: &str, content| writer.add(dir, name.as_bytes(), Attributes::default(), content).unwrap();
    let mut byte = &b"x"[..];
    add(root, "file", Content::File { size: 1, data: &mut byte });
    add(root, "empty", Content::Directory);
    let many = add(root, "many", Content::Directory);
    for number in 0..3000 {
        add(many, &format!("entry-{number}"), Content::Directory);
    }
    writer.finish([1; 16]).unwrap();
    output
}

fn find(reader: &Reader, path: &str) -> io::Result<Option<Found>> {
    reader.find(path.split('/').map(str::as_bytes))
}

#[test]
fn names_are_found_at_every_depth_and_in_every_block() {
    let reader = Reader::new(image()).unwrap();
    assert_eq!(find(&reader, "file").unwrap(), Some(Found::Other));
    assert_eq!(find(&reader, "empty").unwrap(), Some(Found::Directory));
    assert_eq!(find(&reader, "many/entry-0").unwrap(), Some(Found::Directory));
    assert_eq!(find(&reader, "many/entry-2999").unwrap(), Some(Found::Directory));
    for missing in ["fil", "file2", "file/x", "empty/x", "many/entry-3000", ""] {
        assert_eq!(find(&reader, missing).unwrap(), None, "{missing}");
    }
}

#[test]
fn a_damaged_image_is_an_error_or_an_answer_and_never_a_panic() {
    let disk = image();
    let length = disk.metadata().unwrap().len();
    for place in (1024..length).step_by(211) {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, place).unwrap();
        disk.write_all_at(&[!byte[0]], place).unwrap();
        if let Ok(reader) = Reader::new(disk.try_clone().unwrap()) {
            let _ = find(&reader, "many/entry-2999");
        }
        disk.write_all_at(&byte, place).unwrap();
    }
    disk.set_len(1100).unwrap();
    assert!(Reader::new(disk).is_err());
}
