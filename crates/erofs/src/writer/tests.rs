use super::*;
use crate::{NAME_MAX, Timestamp};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

fn attributes(mode: u16) -> Attributes {
    let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    Attributes { mode, mtime, ..Attributes::default() }
}

fn file(writer: &mut Writer, dir: NodeId, name: &str, data: &[u8]) -> NodeId {
    let content = Content::File { size: data.len() as u64, data: &mut &data[..] };
    writer.add(dir, name.as_bytes(), attributes(0o644), content).unwrap()
}

fn dir(writer: &mut Writer, parent: NodeId, name: &str) -> NodeId {
    writer.add(parent, name.as_bytes(), attributes(0o755), Content::Directory).unwrap()
}

fn writer_with(limits: Limits) -> Writer {
    Writer::new(tempfile::tempfile().unwrap(), limits).unwrap()
}

/// Writes an image into a directory and returns its path.
fn image(place: &Path, fill: impl FnOnce(&mut Writer)) -> std::path::PathBuf {
    let path = place.join("image.erofs");
    let output = fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    let mut writer = Writer::new(output, Limits::default()).unwrap();
    fill(&mut writer);
    writer.finish(*b"0123456789abcdef").unwrap();
    path
}

/// Runs Debian's checker and extracts; nothing if it is not installed.
fn checked_and_extracted(place: &Path, image: &Path) -> Option<std::path::PathBuf> {
    let out = place.join("out");
    let run = Command::new("fsck.erofs").arg(format!("--extract={}", out.display())).arg(image).output();
    let Ok(output) = run else {
        eprintln!("SKIPPED: fsck.erofs is not installed (package erofs-utils)");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(out)
}

#[test]
fn what_was_put_in_is_what_fsck_extracts() {
    let place = tempfile::tempdir().unwrap();
    let big: Vec<u8> = (0..1_000_001_u32).map(|n| (n / 7) as u8).collect();
    let long = "t".repeat(crate::TARGET_MAX);
    let path = image(place.path(), |writer| {
        let root = writer.root();
        file(writer, root, "!before-dot", b"x");
        file(writer, root, "empty", b"");
        file(writer, root, "block", &[7; 4096]);
        let shared = file(writer, root, "big", &big);
        let sub = dir(writer, root, "sub");
        writer.link(sub, b"again", shared).unwrap();
        writer.add(sub, b"short", attributes(0o777), Content::Symlink(b"../big")).unwrap();
        writer.add(sub, b"long", attributes(0o777), Content::Symlink(long.as_bytes())).unwrap();
        writer.add(sub, b"\xff\xfe", attributes(0o600), Content::Fifo).unwrap();
        file(writer, sub, &"n".repeat(NAME_MAX), b"named");
    });
    let Some(out) = checked_and_extracted(place.path(), &path) else { return };
    assert_eq!(fs::read(out.join("!before-dot")).unwrap(), b"x");
    assert_eq!(fs::read(out.join("empty")).unwrap(), b"");
    assert_eq!(fs::read(out.join("block")).unwrap(), [7; 4096]);
    assert_eq!(fs::read(out.join("big")).unwrap(), big);
    assert_eq!(fs::read(out.join("sub/again")).unwrap(), big);
    assert_eq!(fs::read_link(out.join("sub/short")).unwrap(), Path::new("../big"));
    assert_eq!(fs::read_link(out.join("sub/long")).unwrap(), Path::new(&long));
    assert_eq!(fs::read(out.join("sub").join("n".repeat(NAME_MAX))).unwrap(), b"named");
    let name = std::os::unix::ffi::OsStrExt::from_bytes(&b"sub/\xff\xfe"[..]);
    let fifo = fs::symlink_metadata(out.join::<&std::ffi::OsStr>(name)).unwrap();
    assert!(fifo.file_type().is_fifo());
    let big = fs::metadata(out.join("big")).unwrap();
    assert_eq!((big.mtime(), big.mode() & 0o7777), (1_700_000_000, 0o644));
}

#[test]
fn directories_over_many_blocks_keep_every_entry() {
    let place = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..5000).map(|n| format!("{n:x}-{}", "y".repeat(n % 90))).collect();
    let path = image(place.path(), |writer| {
        let big = dir(writer, writer.root(), "big");
        for name in &names {
            file(writer, big, name, name.as_bytes());
        }
    });
    let Some(out) = checked_and_extracted(place.path(), &path) else { return };
    assert_eq!(fs::read_dir(out.join("big")).unwrap().count(), names.len());
    for name in &names {
        assert_eq!(fs::read(out.join("big").join(name)).unwrap(), name.as_bytes());
    }
}

/// A mount of an image by this host's kernel, in a mount namespace of its own that ends with its child.
struct Mounted {
    child: std::process::Child,
    root: std::path::PathBuf,
}

impl Mounted {
    fn new(place: &Path, image: &Path) -> Option<Self> {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default().contains("\terofs\n");
        if !known || !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: mounting needs root and a kernel with erofs");
            return None;
        }
        let point = place.join("mnt");
        fs::create_dir(&point).unwrap();
        let script = r#"mount -t erofs -o loop,ro "$1" "$2" && echo mounted && read end"#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).args([image, &point]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n");
        let root = format!("/proc/{}/root{}", child.id(), point.display()).into();
        Some(Self { child, root })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn xattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 << 16);
    rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)).unwrap();
    value
}

#[test]
fn the_kernel_reads_devices_owners_xattrs_and_times() {
    let place = tempfile::tempdir().unwrap();
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let path = image(place.path(), |writer| {
        let root = writer.root();
        let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = [
            (b"security.capability".to_vec(), capability.clone()),
            (b"trusted.big".to_vec(), vec![b'v'; 60_000]),
            (b"user.a".to_vec(), b"b".to_vec()),
        ]
        .into();
        let owned = Attributes { uid: 70_000, gid: u32::MAX - 2, xattrs, ..attributes(0o4755) };
        writer.add(root, b"tty", attributes(0o620), Content::CharDevice { major: 4, minor: 300 }).unwrap();
        writer.add(root, b"disk", attributes(0o660), Content::BlockDevice { major: 8, minor: 1 }).unwrap();
        writer.add(root, b"socket", attributes(0o600), Content::Socket).unwrap();
        writer.add(root, b"link", owned.clone(), Content::Symlink(b"tty")).unwrap();
        let program = Content::File { size: 5000, data: &mut std::io::repeat(b'p') };
        let program = writer.add(root, b"program", owned, program).unwrap();
        let sub = dir(writer, root, "sub");
        dir(writer, sub, "subsub");
        writer.link(sub, b"program", program).unwrap();
        for n in 0..3000 {
            file(writer, sub, &format!("{n}"), b"many");
        }
    });
    checked_and_extracted(place.path(), &path);
    let Some(mounted) = Mounted::new(place.path(), &path) else { return };
    let stat = |name: &str| fs::symlink_metadata(mounted.root.join(name)).unwrap();
    let tty = stat("tty");
    assert!(tty.file_type().is_char_device());
    assert_eq!((tty.rdev(), tty.mode() & 0o7777), ((4 << 8) | (300 & 0xff) | ((300 & !0xff) << 12), 0o620));
    assert!(stat("disk").file_type().is_block_device());
    assert!(stat("socket").file_type().is_socket());
    assert_eq!(fs::read_link(mounted.root.join("link")).unwrap(), Path::new("tty"));
    let program = stat("program");
    assert_eq!((program.uid(), program.gid(), program.mode() & 0o7777), (70_000, u32::MAX - 2, 0o4755));
    assert_eq!((program.mtime(), program.mtime_nsec(), program.nlink()), (1_700_000_000, 123_456_789, 2));
    assert_eq!(stat("sub/program").ino(), program.ino());
    assert_eq!((stat("").nlink(), stat("sub").nlink(), stat("sub/subsub").nlink()), (3, 3, 2));
    assert_eq!(fs::read(mounted.root.join("sub/program")).unwrap(), [b'p'; 5000]);
    for path in [mounted.root.join("program"), mounted.root.join("link")] {
        assert_eq!(xattr(&path, "security.capability"), capability);
        assert_eq!(xattr(&path, "trusted.big"), [b'v'; 60_000]);
    }
    assert_eq!(fs::read_dir(mounted.root.join("sub")).unwrap().count(), 3002);
    let inodes = fs::read_dir(mounted.root.join("sub")).unwrap().map(|entry| entry.unwrap());
    assert!(
        inodes.into_iter().all(|entry| std::os::unix::fs::DirEntryExt::ino(&entry) == entry.metadata().unwrap().ino())
    );
    assert_eq!(fs::read(mounted.root.join("sub/2999")).unwrap(), b"many");
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fill = |writer: &mut Writer| {
        let sub = dir(writer, writer.root(), "sub");
        for n in 0..100 {
            file(writer, sub, &format!("{n}"), &vec![1; n * 100]);
        }
    };
    assert_eq!(fs::read(image(one.path(), fill)).unwrap(), fs::read(image(two.path(), fill)).unwrap());
}

#[test]
fn zeros_take_no_space() {
    let place = tempfile::tempdir().unwrap();
    let path = image(place.path(), |writer| {
        let mut data = std::io::Read::take(std::io::repeat(0), 64 << 20);
        let content = Content::File { size: 64 << 20, data: &mut data };
        writer.add(writer.root(), b"zeros", attributes(0o644), content).unwrap();
    });
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.len() > 64 << 20);
    assert!(metadata.blocks() * 512 < 1 << 20, "{}", metadata.blocks());
}

#[test]
fn removed_data_leaves_a_hole_unless_another_name_has_it() {
    let place = tempfile::tempdir().unwrap();
    let path = image(place.path(), |writer| {
        let root = writer.root();
        let sub = dir(writer, root, "sub");
        file(writer, sub, "gone", &vec![1; 8 << 20]);
        let kept = file(writer, sub, "kept", &vec![2; 1 << 20]);
        writer.link(root, b"name", kept).unwrap();
        assert!(writer.remove(root, b"sub").unwrap());
        assert!(!writer.remove(root, b"sub").unwrap());
        assert!(matches!(writer.lookup(sub, b"kept"), Err(Error::Gone)));
    });
    assert!(fs::metadata(&path).unwrap().blocks() * 512 < 2 << 20);
    let Some(out) = checked_and_extracted(place.path(), &path) else { return };
    assert_eq!(fs::read(out.join("name")).unwrap(), vec![2; 1 << 20]);
    assert_eq!(fs::metadata(out.join("name")).unwrap().nlink(), 1);
    assert!(!out.join("sub").exists());
}

#[test]
fn an_id_of_a_removed_node_is_not_taken_for_the_next_one() {
    let mut writer = writer_with(Limits::default());
    let root = writer.root();
    let old = dir(&mut writer, root, "a");
    writer.remove(root, b"a").unwrap();
    let new = dir(&mut writer, root, "b");
    assert_ne!(old, new);
    assert!(matches!(writer.kind(old), Err(Error::Gone)));
    assert_eq!(writer.kind(new).unwrap(), Kind::Directory);
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let mut writer = writer_with(Limits::default());
    let root = writer.root();
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'n'; NAME_MAX + 1]] {
        let added = writer.add(root, name, attributes(0o755), Content::Directory);
        assert!(matches!(added, Err(Error::Name { .. })), "{name:?}");
    }
    dir(&mut writer, root, "a");
    assert!(matches!(writer.add(root, b"a", attributes(0), Content::Fifo), Err(Error::Exists)));
}

#[test]
fn links_to_directories_empty_targets_and_unknown_xattrs_are_refused() {
    let mut writer = writer_with(Limits::default());
    let root = writer.root();
    let sub = dir(&mut writer, root, "sub");
    assert!(matches!(writer.link(root, b"l", sub), Err(Error::LinkedDirectory)));
    assert!(matches!(writer.add(root, b"l", attributes(0), Content::Symlink(b"")), Err(Error::Target { length: 0 })));
    let xattrs = [(b"system.other".to_vec(), vec![])].into();
    let strange = Attributes { xattrs, ..attributes(0o644) };
    assert!(matches!(writer.add(root, b"f", strange, Content::Fifo), Err(Error::Xattr { .. })));
    let fifo = writer.add(root, b"f", attributes(0), Content::Fifo).unwrap();
    assert!(matches!(writer.lookup(fifo, b"x"), Err(Error::NotADirectory)));
}

#[test]
fn each_limit_ends_in_its_own_error() {
    let mut writer = writer_with(Limits { entries: 2, ..Limits::default() });
    let root = writer.root();
    let one = file(&mut writer, root, "1", b"");
    writer.link(root, b"2", one).unwrap();
    assert!(matches!(writer.add(root, b"3", attributes(0), Content::Fifo), Err(Error::TooManyEntries { limit: 2 })));

    let mut writer = writer_with(Limits { depth: 1, ..Limits::default() });
    let root = writer.root();
    let sub = dir(&mut writer, root, "1");
    assert!(matches!(writer.add(sub, b"2", attributes(0), Content::Directory), Err(Error::TooDeep { limit: 1 })));

    let mut writer = writer_with(Limits { metadata: 10, ..Limits::default() });
    let added = writer.add(writer.root(), b"eleven-long", attributes(0), Content::Fifo);
    assert!(matches!(added, Err(Error::TooMuchMetadata { limit: 10 })));

    let mut writer = writer_with(Limits { size: 1 << 20, ..Limits::default() });
    let content = Content::File { size: u64::MAX, data: &mut std::io::repeat(1) };
    assert!(matches!(writer.add(writer.root(), b"f", attributes(0), content), Err(Error::TooLarge { .. })));
}

#[test]
fn contents_that_end_early_are_an_error() {
    let mut writer = writer_with(Limits::default());
    let content = Content::File { size: 10, data: &mut &b"seven.."[..] };
    assert!(matches!(writer.add(writer.root(), b"f", attributes(0), content), Err(Error::Truncated { missing: 3 })));
}
