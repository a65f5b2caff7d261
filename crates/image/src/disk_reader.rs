//! Reads disks back for this room's tests: a small reader of EROFS of its own, so that the writer does not judge itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a path of a disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Kind and permissions, as in `st_mode`.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) links: u32,
    pub(crate) inode: u64,
    /// A file's bytes, a link's target, a device's encoded number in four bytes.
    pub(crate) data: Vec<u8>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

/// Reads everything, by absolute paths.
pub(crate) fn read(path: &Path) -> BTreeMap<String, Found> {
    let disk = Disk { file: File::open(path).unwrap() };
    let superblock = disk.bytes(1024, 128);
    assert_eq!(u32_at(&superblock, 0), 0xE0F5_E1E2);
    let meta = u64::from(u32_at(&superblock, 40)) * 4096;
    let mut found = BTreeMap::new();
    let mut pending = vec![("/".to_owned(), u64::from(u16_at(&superblock, 14)))];
    while let Some((path, nid)) = pending.pop() {
        let node = disk.node(meta, nid);
        if node.mode & 0o170_000 == 0o040_000 {
            for (name, nid) in entries(&node.data) {
                if name != "." && name != ".." {
                    pending.push((format!("{}/{name}", path.trim_end_matches('/')), nid));
                }
            }
        }
        found.insert(path, node);
    }
    found
}

struct Disk {
    file: File,
}

impl Disk {
    fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    fn node(&self, meta: u64, nid: u64) -> Found {
        let at = meta + nid * 32;
        let inode = self.bytes(at, 64);
        let format = u16_at(&inode, 0);
        assert_eq!(format & 1, 1, "only extended inodes are written");
        let (words, mode, size) = (usize::from(u16_at(&inode, 2)), u32::from(u16_at(&inode, 4)), u64_at(&inode, 8));
        let xattr_size = if words == 0 { 0 } else { 12 + 4 * (words - 1) };
        let data = match (mode & 0o170_000, format >> 1) {
            (0o020_000 | 0o060_000, _) => inode[16..20].to_vec(),
            (_, 2) => self.bytes(at + 64 + xattr_size as u64, size as usize),
            _ if size == 0 => Vec::new(),
            _ => self.bytes(u64::from(u32_at(&inode, 16)) * 4096, size as usize),
        };
        Found {
            mode,
            owner: (u32_at(&inode, 24), u32_at(&inode, 28)),
            mtime: (u64_at(&inode, 32) as i64, u32_at(&inode, 40)),
            links: u32_at(&inode, 44),
            inode: nid,
            data,
            xattrs: xattrs(&self.bytes(at + 64, xattr_size)),
        }
    }
}

fn entries(data: &[u8]) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for block in data.chunks(4096) {
        let count = usize::from(u16_at(block, 8)) / 12;
        for n in 0..count {
            let begin = usize::from(u16_at(block, n * 12 + 8));
            let end = if n + 1 < count { usize::from(u16_at(block, n * 12 + 20)) } else { block.len() };
            let name = String::from_utf8_lossy(&block[begin..end]).trim_end_matches('\0').to_owned();
            found.push((name, u64_at(block, n * 12)));
        }
    }
    assert!(found.is_sorted(), "the kernel searches by bytes");
    found
}

fn xattrs(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let prefixes = ["", "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "", "security."];
    let mut found = BTreeMap::new();
    bytes = bytes.get(12..).unwrap_or_default();
    while bytes.len() >= 4 {
        let (name, value) = (usize::from(bytes[0]), usize::from(u16_at(bytes, 2)));
        let suffix = String::from_utf8_lossy(&bytes[4..4 + name]);
        let whole = format!("{}{suffix}", prefixes[usize::from(bytes[1])]);
        found.insert(whole, bytes[4 + name..4 + name + value].to_vec());
        bytes = &bytes[(4 + name + value).next_multiple_of(4)..];
    }
    found
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
