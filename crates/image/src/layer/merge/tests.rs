use super::*;
use crate::disk_reader::{self, Found};
use std::collections::BTreeMap;
use tar::{Builder, EntryType, Header};

mod model;

/// A layer in the making.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn raw(mut self, name: &[u8], kind: EntryType, link: &[u8], data: &[u8]) -> Self {
        let mut header = header(kind, data.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        self.raw(name.as_bytes(), EntryType::Regular, b"", data.as_bytes())
    }

    fn dir(self, name: &str) -> Self {
        self.raw(name.as_bytes(), EntryType::Directory, b"", b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), EntryType::Symlink, target.as_bytes(), b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), EntryType::Link, target.as_bytes(), b"")
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind == EntryType::Directory { 0o750 } else { 0o640 });
    header.set_uid(1000);
    header.set_gid(1001);
    header.set_mtime(1_600_000_000);
    header
}

fn merged_with(limits: &Limits, layers: &[Vec<u8>]) -> Result<BTreeMap<String, Found>, Error> {
    let disk = tempfile::NamedTempFile::new().unwrap();
    let mut merge = Merge::new(disk.reopen().unwrap(), limits)?;
    layers.iter().try_for_each(|layer| merge.layer(&layer[..]))?;
    merge.finish([0; 16])?;
    Ok(disk_reader::read(disk.path()))
}

fn merged(layers: Vec<Layer>) -> BTreeMap<String, Found> {
    let layers: Vec<Vec<u8>> = layers.into_iter().map(Layer::bytes).collect();
    merged_with(&Limits::default(), &layers).unwrap()
}

fn refused(layer: Layer) -> Error {
    merged_with(&Limits::default(), &[layer.bytes()]).unwrap_err()
}

/// Paths with what is in them, for short comparisons; directories end with a slash.
fn shape(tree: &BTreeMap<String, Found>) -> Vec<String> {
    let line = |(path, found): (&String, &Found)| match found.mode & 0o170_000 {
        0o040_000 => format!("{}/", path.trim_end_matches('/')),
        0o120_000 => format!("{path} -> {}", String::from_utf8_lossy(&found.data)),
        _ => format!("{path} {}", String::from_utf8_lossy(&found.data)),
    };
    tree.iter().map(line).collect()
}

#[test]
fn attributes_and_data_of_an_entry_are_kept() {
    let tree = merged(vec![Layer::new().dir("d").file("d/f", "data").symlink("d/l", "f")]);
    let file = &tree["/d/f"];
    assert_eq!((file.mode, file.owner, file.mtime), (0o100_640, (1000, 1001), (1_600_000_000, 0)));
    assert_eq!(file.data, b"data");
    assert_eq!((tree["/d"].mode, tree["/d"].links), (0o040_750, 2));
    assert_eq!(tree["/d/l"].data, b"f");
}

#[test]
fn parents_that_are_not_in_the_layer_are_made() {
    let tree = merged(vec![Layer::new().file("a/b/c", "x")]);
    assert_eq!(shape(&tree), ["/", "/a/", "/a/b/", "/a/b/c x"]);
    assert_eq!((tree["/a"].mode, tree["/a"].owner), (0o040_755, (0, 0)));
}

#[test]
fn the_root_entry_sets_the_roots_attributes() {
    let tree = merged(vec![Layer::new().dir("./")]);
    assert_eq!((tree["/"].mode, tree["/"].owner), (0o040_750, (1000, 1001)));
    assert!(matches!(refused(Layer::new().file("./.", "x")), Error::Hostile { .. }));
}

#[test]
fn a_whiteout_hides_what_earlier_layers_have() {
    let lower = Layer::new().file("a/x", "1").file("a/d/y", "2").file("a/keep", "3");
    let tree = merged(vec![lower, Layer::new().file("a/.wh.x", "").file("a/.wh.d", "").file("a/.wh.absent", "")]);
    assert_eq!(shape(&tree), ["/", "/a/", "/a/keep 3"]);
}

#[test]
fn a_whiteout_of_the_same_layer_does_not_hide_its_own() {
    for upper in [
        Layer::new().file("d/.wh.x", "").file("d/x", "new"),
        Layer::new().file("d/x", "new").file("d/.wh.x", ""),
        Layer::new().file("d/x", "new").file("d/.wh..wh..opq", ""),
    ] {
        let tree = merged(vec![Layer::new().file("d/x", "old"), upper]);
        assert_eq!(shape(&tree), ["/", "/d/", "/d/x new"]);
    }
}

#[test]
fn an_opaque_directory_keeps_only_what_its_layer_puts_there_in_any_order() {
    let lower = || Layer::new().dir("d").file("d/old", "1").file("d/sub/old", "2").dir("d/empty");
    for upper in [
        Layer::new().dir("d").file("d/.wh..wh..opq", "").file("d/sub/new", "3").file("d/new", "4"),
        Layer::new().file("d/sub/new", "3").file("d/new", "4").dir("d").file("d/.wh..wh..opq", ""),
    ] {
        let tree = merged(vec![lower(), upper]);
        assert_eq!(shape(&tree), ["/", "/d/", "/d/new 4", "/d/sub/", "/d/sub/new 3"]);
        assert_eq!((tree["/d"].mode, tree["/d/sub"].mode), (0o040_750, 0o040_755));
    }
}

#[test]
fn whiteouts_may_be_links_or_anything_else() {
    let lower = || Layer::new().file("a", "1").file("b", "2").file("c", "3").file("d", "4");
    let upper = Layer::new().file(".wh.a", "").link(".wh.b", ".wh.a").symlink(".wh.c", "x").dir(".wh.d");
    assert_eq!(shape(&merged(vec![lower(), upper])), ["/"]);
    let linked = Layer::new().dir("o").link("o/.wh..wh..opq", ".wh.a");
    assert_eq!(shape(&merged(vec![Layer::new().file("o/x", ""), linked])), ["/", "/o/"]);
}

#[test]
fn what_aufs_keeps_for_itself_is_left_out() {
    let layer = Layer::new().file(".wh..wh.aufs", "").file(".wh..wh.plnk/1.2", "x").dir(".wh..wh.orph").file("a", "1");
    assert_eq!(shape(&merged(vec![layer])), ["/", "/a 1"]);
}

#[test]
fn a_whiteout_of_a_directory_by_itself_is_refused() {
    for name in ["d/.wh.", "d/.wh..", "d/.wh..."] {
        assert!(matches!(refused(Layer::new().file(name, "")), Error::Hostile { .. }), "{name}");
    }
}

#[test]
fn files_directories_and_links_replace_each_other() {
    let lower = Layer::new().file("a", "1").file("b/x", "2").symlink("c", "b").dir("e").file("f/keep", "3");
    let upper = Layer::new().dir("a").file("b", "new").dir("c").symlink("e", "a").dir("f");
    let tree = merged(vec![lower, upper]);
    assert_eq!(shape(&tree), ["/", "/a/", "/b new", "/c/", "/e -> a", "/f/", "/f/keep 3"]);
}

#[test]
fn a_file_in_the_way_of_an_entry_becomes_a_directory() {
    let tree = merged(vec![Layer::new().file("a", "1"), Layer::new().file("a/b", "2")]);
    assert_eq!(shape(&tree), ["/", "/a/", "/a/b 2"]);
}

#[test]
fn hard_links_share_a_node_across_layers_and_outlive_its_first_name() {
    let lower = Layer::new().file("a", "one").link("b", "a");
    let upper = Layer::new().link("d/c", "/b").file("a", "two").link("e", "a");
    let tree = merged(vec![lower, upper]);
    assert_eq!(shape(&tree), ["/", "/a two", "/b one", "/d/", "/d/c one", "/e two"]);
    assert_eq!(tree["/b"].inode, tree["/d/c"].inode);
    assert_eq!((tree["/b"].links, tree["/a"].links), (2, 2));
}

#[test]
fn a_hard_link_to_a_symlink_names_the_link_itself() {
    let tree = merged(vec![Layer::new().symlink("l", "nowhere").link("m", "l")]);
    assert_eq!(tree["/l"].inode, tree["/m"].inode);
}

#[test]
fn hard_links_to_nothing_to_directories_or_into_what_they_replace_are_refused() {
    for layer in [
        Layer::new().link("a", "absent"),
        Layer::new().dir("d").link("a", "d"),
        Layer::new().link("a", "/"),
        Layer::new().file("d/x", "").link("d", "d/x"),
        Layer::new().file("x", "").link("a", "../x"),
    ] {
        assert!(matches!(refused(layer), Error::Hostile { .. }));
    }
}

#[test]
fn symlinked_parents_are_followed_inside_the_root() {
    let lower =
        || Layer::new().dir("usr/lib").symlink("lib", "usr/lib").symlink("abs", "/usr").symlink("up", "../../../usr");
    let upper = Layer::new().file("lib/a", "1").file("abs/b", "2").file("up/c", "3").file("lib/.wh.gone", "");
    let tree = merged(vec![lower().file("usr/lib/gone", ""), upper]);
    let usr: Vec<String> = shape(&tree).into_iter().filter(|line| line.starts_with("/usr")).collect();
    assert_eq!(usr, ["/usr/", "/usr/b 2", "/usr/c 3", "/usr/lib/", "/usr/lib/a 1"]);
}

#[test]
fn a_dangling_parent_is_made_where_it_points_and_a_loop_is_refused() {
    let tree = merged(vec![Layer::new().symlink("l", "/made/here").file("l/x", "1")]);
    assert_eq!(shape(&tree), ["/", "/l -> /made/here", "/made/", "/made/here/", "/made/here/x 1"]);
    assert!(matches!(refused(Layer::new().symlink("l", "l").file("l/x", "")), Error::Hostile { .. }));
}

#[test]
fn names_that_lead_out_are_refused_and_absolute_ones_are_not() {
    for name in ["../x", "a/../../x", ".."] {
        let error = refused(Layer::new().raw(name.as_bytes(), EntryType::Regular, b"", b""));
        assert!(matches!(error, Error::Hostile { .. }), "{name}");
    }
    let tree = merged(vec![Layer::new().raw(b"/etc/x", EntryType::Regular, b"", b"1")]);
    assert_eq!(shape(&tree), ["/", "/etc/", "/etc/x 1"]);
}

#[test]
fn pax_names_owners_times_and_xattrs_count() {
    let capability = [1, 0, 0, 2, 0, b'\n', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let layer = Layer::new()
        .pax(&[
            ("path", long.as_bytes()),
            ("uid", b"3000000"),
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"n"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.btrfs.compression", b"z"),
        ])
        .file("short", "x")
        .pax(&[("linkpath", "t".repeat(300).as_bytes())])
        .symlink("l", "short");
    let tree = merged(vec![layer]);
    let file = &tree[&format!("/{long}")];
    assert_eq!((file.owner, file.mtime), ((3_000_000, 1001), (-2, 500_000_000)));
    let xattrs: Vec<&str> = file.xattrs.keys().map(String::as_str).collect();
    assert_eq!(xattrs, ["security.capability", "user.note"]);
    assert_eq!(file.xattrs["security.capability"], capability);
    assert_eq!(tree["/l"].data, "t".repeat(300).as_bytes());
}

#[test]
fn gnu_long_names_and_base_256_numbers_are_understood() {
    let mut builder = Builder::new(Vec::new());
    let mut header = header(EntryType::Regular, 1);
    header.set_uid(0x00ff_ffff);
    builder.append_data(&mut header, "n".repeat(150), &b"x"[..]).unwrap();
    let mut header = self::header(EntryType::Symlink, 0);
    builder.append_link(&mut header, "l", "t".repeat(150)).unwrap();
    let tree = merged_with(&Limits::default(), &[builder.into_inner().unwrap()]).unwrap();
    assert_eq!(tree[&format!("/{}", "n".repeat(150))].owner.0, 0x00ff_ffff);
    assert_eq!(tree["/l"].data.len(), 150);
}

#[test]
fn devices_and_fifos_are_kept() {
    let mut builder = Builder::new(Vec::new());
    for (name, kind) in [("c", EntryType::Char), ("b", EntryType::Block), ("p", EntryType::Fifo)] {
        let mut header = header(kind, 0);
        header.set_device_major(4).unwrap();
        header.set_device_minor(300).unwrap();
        builder.append_data(&mut header, name, &b""[..]).unwrap();
    }
    let tree = merged_with(&Limits::default(), &[builder.into_inner().unwrap()]).unwrap();
    let device = (4_u32 << 8 | (300 & 0xff) | (300 & !0xff) << 12).to_le_bytes();
    assert_eq!((tree["/c"].mode, &tree["/c"].data[..]), (0o020_640, &device[..]));
    assert_eq!((tree["/b"].mode, &tree["/b"].data[..]), (0o060_640, &device[..]));
    assert_eq!(tree["/p"].mode, 0o010_640);
}

#[test]
fn sparse_files_of_pax_are_expanded() {
    let layer = Layer::new()
        .pax(&[("GNU.sparse.map", b"2,3,8,1"), ("GNU.sparse.size", b"10"), ("GNU.sparse.name", b"old")])
        .file("x", "abcd");
    let mut map = b"1\n4096\n4\n".to_vec();
    map.resize(512, 0);
    map.extend(b"tail");
    let layer = layer
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"new"),
            ("GNU.sparse.realsize", b"8192"),
        ])
        .raw(b"y", EntryType::Regular, b"", &map)
        .file("after", "z");
    let tree = merged(vec![layer]);
    assert_eq!(tree["/old"].data, b"\0\0abc\0\0\0d\0");
    let new = &tree["/new"].data;
    assert_eq!((new.len(), &new[4096..4100], new.iter().filter(|byte| **byte != 0).count()), (8192, &b"tail"[..], 4));
    assert_eq!(tree["/after"].data, b"z");
}

#[test]
fn a_truncated_layer_a_broken_header_and_an_unknown_type_are_errors() {
    let whole = Layer::new().file("a", &"x".repeat(2000)).bytes();
    let cut = merged_with(&Limits::default(), &[whole[..1000].to_vec()]).unwrap_err();
    assert!(matches!(cut, Error::Malformed { .. }), "{cut}");
    let mut broken = whole.clone();
    broken[0] ^= 1;
    assert!(matches!(merged_with(&Limits::default(), &[broken]).unwrap_err(), Error::Malformed { .. }));
    let strange = Layer::new().raw(b"a", EntryType::new(b'V'), b"", b"");
    assert!(matches!(refused(strange), Error::Hostile { .. }));
    let garbage = merged_with(&Limits::default(), &[vec![b'x'; 5000]]).unwrap_err();
    assert!(matches!(garbage, Error::Malformed { .. }));
}

#[test]
fn a_size_that_lies_is_an_error_and_reserves_no_memory() {
    let mut header = header(EntryType::Regular, 1 << 50);
    header.set_path("a").unwrap();
    header.set_cksum();
    let error = merged_with(&Limits::default(), &[header.as_bytes().to_vec()]).unwrap_err();
    assert!(matches!(error, Error::Hostile { .. }), "{error}");
    let mut extension = Header::new_gnu();
    extension.set_entry_type(EntryType::GNULongName);
    extension.set_size(1 << 40);
    extension.set_cksum();
    let error = merged_with(&Limits::default(), &[extension.as_bytes().to_vec()]).unwrap_err();
    assert!(matches!(error, Error::Hostile { .. }), "{error}");
}

#[test]
fn each_limit_ends_in_a_hostile_error() {
    let disk = fcvm_erofs::Limits { entries: 3, depth: 4, size: 1 << 20, metadata: 1000 };
    let limits = Limits { disk, ..Limits::default() };
    for layer in [
        Layer::new().file("1", "").file("2", "").file("3", "").file("4", ""),
        Layer::new().file("1/2/3/4/5/6", ""),
        Layer::new().file("a", &"x".repeat(2 << 20)),
        Layer::new().pax(&[("SCHILY.xattr.user.a", &[b'v'; 2000])]).file("a", ""),
    ] {
        let error = merged_with(&limits, &[layer.bytes()]).unwrap_err();
        assert!(matches!(error, Error::Hostile { .. }), "{error}");
    }
    let limits = Limits { archive_entries: 3, ..Limits::default() };
    let same = Layer::new().file("a", "").file("a", "").file("a", "").file("a", "");
    assert!(matches!(merged_with(&limits, &[same.bytes()]), Err(Error::Hostile { .. })));
}

#[test]
fn non_utf8_names_are_kept_and_names_with_zeros_are_refused() {
    let tree = merged(vec![Layer::new().raw(b"\xff\xfe", EntryType::Regular, b"", b"x")]);
    assert_eq!(tree.len(), 2);
    let zero = Layer::new().pax(&[("path", b"a\0b")]).file("x", "");
    assert!(matches!(refused(zero), Error::Hostile { .. }));
}
