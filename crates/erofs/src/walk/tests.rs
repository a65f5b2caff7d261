use super::*;
use crate::{Content, Limits, Writer};

fn attributes(mode: u16, xattrs: &[(&str, &[u8])]) -> Attributes {
    let xattrs = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
    Attributes { mode, uid: 70_000, gid: 7, mtime: Timestamp { seconds: -5, nanoseconds: 9 }, xattrs }
}

/// An image with one of each kind; `/z` is one more name of `/dir/file`.
fn image() -> File {
    let output = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(output.try_clone().unwrap(), Limits::default()).unwrap();
    let root = writer.root();
    writer.set_attributes(root, attributes(0o700, &[])).unwrap();
    let dir = writer.add(root, b"dir", attributes(0o1777, &[]), Content::Directory).unwrap();
    let capability = attributes(0o755, &[("security.capability", &[1, 0, 2]), ("user.a", b""), ("user.bc", b"12345")]);
    let bytes = vec![7; 10_000];
    let content = Content::File { size: 10_000, data: &mut &bytes[..] };
    let file = writer.add(dir, b"file", capability, content).unwrap();
    writer.link(root, b"z", file).unwrap();
    let mut add = |name: &str, content| writer.add(root, name.as_bytes(), attributes(0o644, &[]), content).unwrap();
    add("!", Content::Symlink(b"dir/file"));
    add("block", Content::BlockDevice { major: 8, minor: 0x1234 });
    add("char", Content::CharDevice { major: 0xfff, minor: 0xf_ffff });
    add("fifo", Content::Fifo);
    add("socket", Content::Socket);
    let mut nothing = &b""[..];
    add("empty", Content::File { size: 0, data: &mut nothing });
    for number in 0..500 {
        add(&format!("n{number:03}"), Content::Directory);
    }
    writer.finish([1; 16]).unwrap();
    output
}

#[test]
fn everything_that_was_put_in_is_met_in_order() {
    let reader = Reader::new(image()).unwrap();
    let items: Vec<Item> = reader.walk().collect::<io::Result<_>>().unwrap();
    let numbered: Vec<String> = (0..500).map(|number| format!("n{number:03}")).collect();
    let mut paths = vec!["", "!", "block", "char", "dir", "dir/file", "empty", "fifo"];
    paths.extend(numbered.iter().map(String::as_str));
    paths.extend(["socket", "z"]);
    assert_eq!(items.iter().map(|item| std::str::from_utf8(&item.path).unwrap()).collect::<Vec<_>>(), paths);
    let item = |path: &str| items.iter().find(|item| item.path == path.as_bytes()).unwrap();
    assert_eq!(item("").attributes, attributes(0o700, &[]));
    assert_eq!(item("dir").attributes.mode, 0o1777);
    let xattrs = &item("dir/file").attributes.xattrs;
    assert_eq!(xattrs[&b"security.capability"[..]], [1, 0, 2]);
    assert_eq!((&xattrs[&b"user.a"[..]][..], &xattrs[&b"user.bc"[..]][..]), (&b""[..], &b"12345"[..]));
    assert_eq!((item("z").number, item("z").links), (item("dir/file").number, 2));
    assert_eq!(item("!").kind(), Kind::Symlink(b"dir/file"));
    assert_eq!(item("block").kind(), Kind::BlockDevice { major: 8, minor: 0x1234 });
    assert_eq!(item("char").kind(), Kind::CharDevice { major: 0xfff, minor: 0xf_ffff });
    assert_eq!((item("fifo").kind(), item("socket").kind()), (Kind::Fifo, Kind::Socket));
    let mut bytes = Vec::new();
    reader.contents(item("z")).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, vec![7; 10_000]);
    assert_eq!(reader.contents(item("empty")).read(&mut [0]).unwrap(), 0);
    assert_eq!(reader.contents(item("dir")).read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_damaged_image_is_walked_to_an_end() {
    let disk = image();
    let length = disk.metadata().unwrap().len();
    for place in (1024..length).step_by(97) {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, place).unwrap();
        disk.write_all_at(&[!byte[0]], place).unwrap();
        if let Ok(reader) = Reader::new(disk.try_clone().unwrap()) {
            for item in reader.walk().flatten() {
                let _ = reader.contents(&item).read(&mut [0; 100]);
            }
        }
        disk.write_all_at(&byte, place).unwrap();
    }
}
