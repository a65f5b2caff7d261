//! The bytes of the on-disk format (Linux, `fs/erofs/erofs_fs.h`). Where they go is decided in `layout`.

use crate::tree::{Attributes, Kind, Timestamp};
use crate::{Error, NAME_MAX};

/// The size of a block in bytes.
pub(crate) const BLOCK: usize = 4096;
/// The size of an extended inode in bytes.
pub(crate) const INODE: usize = 64;
/// Inodes are numbered by slots of this many bytes.
pub(crate) const SLOT: u64 = 32;
/// Where the superblock begins.
pub(crate) const SUPERBLOCK_OFFSET: usize = 1024;
/// The size of a directory entry without its name.
pub(crate) const DIRENT: usize = 12;

pub(crate) const MAGIC: u32 = 0xE0F5_E1E2;
const BLOCK_BITS: u8 = 12;
/// `SB_CHKSUM | MTIME`
const FEATURE_COMPAT: u32 = 3;
/// The header of a node's extended attributes.
pub(crate) const XATTR_HEADER: usize = 12;
/// The inode counts its attributes' size in words of 4 bytes with a u16.
const XATTR_MAX: usize = XATTR_HEADER + 4 * (u16::MAX as usize - 1);

/// Name prefixes that the format abbreviates; other names cannot be held.
pub(crate) const XATTR_PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// How a node's data is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In blocks of its own, the first of which is named.
    Blocks(u32),
    /// Behind the inode.
    Inline,
}

impl Storage {
    fn layout(self) -> u16 {
        match self {
            Self::Blocks(_) => 0,
            Self::Inline => 2,
        }
    }
}

/// What an inode says besides its attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inode {
    pub(crate) number: u32,
    pub(crate) links: u32,
    pub(crate) size: u64,
    pub(crate) storage: Storage,
    pub(crate) xattr_bytes: usize,
}

/// Encodes an extended inode.
pub(crate) fn inode(inode: &Inode, attributes: &Attributes, kind: &Kind<'_>) -> [u8; INODE] {
    let mut out = [0; INODE];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let xattr_words = if inode.xattr_bytes == 0 { 0 } else { (inode.xattr_bytes - XATTR_HEADER) / 4 + 1 };
    let place = match (kind, inode.storage) {
        (Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor }, _) => device(*major, *minor),
        (_, Storage::Blocks(first)) => first,
        (_, Storage::Inline) => 0,
    };
    put(0, &(1 | inode.storage.layout() << 1).to_le_bytes());
    put(2, &(xattr_words as u16).to_le_bytes());
    put(4, &(kind.mode_bits() | attributes.mode & 0o7777).to_le_bytes());
    put(8, &inode.size.to_le_bytes());
    put(16, &place.to_le_bytes());
    put(20, &inode.number.to_le_bytes());
    put(24, &attributes.uid.to_le_bytes());
    put(28, &attributes.gid.to_le_bytes());
    put(32, &attributes.mtime.seconds.to_le_bytes());
    put(40, &attributes.mtime.nanoseconds.to_le_bytes());
    put(44, &inode.links.to_le_bytes());
    out
}

/// The kernel's `new_encode_dev`.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12
}

/// What the superblock says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Superblock {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    pub(crate) blocks: u32,
    pub(crate) meta_block: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) time: Timestamp,
}

/// Encodes the first block.
pub(crate) fn first_block(superblock: &Superblock) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        let at = SUPERBLOCK_OFFSET + at;
        out[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &MAGIC.to_le_bytes());
    put(8, &FEATURE_COMPAT.to_le_bytes());
    put(12, &[BLOCK_BITS]);
    put(14, &superblock.root.to_le_bytes());
    put(16, &superblock.inodes.to_le_bytes());
    put(24, &superblock.time.seconds.to_le_bytes());
    put(32, &superblock.time.nanoseconds.to_le_bytes());
    put(36, &superblock.blocks.to_le_bytes());
    put(40, &superblock.meta_block.to_le_bytes());
    put(48, &superblock.uuid);
    let checksum = crc32c(&out[SUPERBLOCK_OFFSET..]);
    out[SUPERBLOCK_OFFSET + 4..SUPERBLOCK_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// CRC-32C as the kernel's `crc32c(~0, …)` gives it: without the final inversion.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// Encodes a node's extended attributes; nothing if it has none.
pub(crate) fn xattrs(attributes: &Attributes) -> Vec<u8> {
    if attributes.xattrs.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0; XATTR_HEADER];
    for (name, value) in &attributes.xattrs {
        let Some((index, suffix)) = split_xattr(name) else { continue };
        out.extend([suffix.len() as u8, index]);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend(suffix);
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// Returns how many bytes [`xattrs`] will need, or which attribute cannot be held.
pub(crate) fn check_xattrs(attributes: &Attributes) -> Result<usize, Error> {
    let mut size = if attributes.xattrs.is_empty() { 0 } else { XATTR_HEADER };
    for (name, value) in &attributes.xattrs {
        let refused = || Error::Xattr { name: String::from_utf8_lossy(name).chars().take(NAME_MAX).collect() };
        let (_, suffix) = split_xattr(name).ok_or_else(refused)?;
        size += (4 + suffix.len() + value.len()).next_multiple_of(4);
        if suffix.len() > NAME_MAX || value.len() > usize::from(u16::MAX) || size > XATTR_MAX {
            return Err(refused());
        }
    }
    Ok(size)
}

/// Splits a name into the index of its prefix and the rest.
fn split_xattr(name: &[u8]) -> Option<(u8, &[u8])> {
    XATTR_PREFIXES.iter().find_map(|(prefix, index)| {
        let suffix = name.strip_prefix(*prefix)?;
        // `user.` and the like need a rest, the access lists must not have one.
        (suffix.is_empty() != prefix.ends_with(b".") && !suffix.contains(&0)).then_some((*index, suffix))
    })
}

/// Says how many entries go into each block of a directory whose sorted names have these lengths, and its size in bytes.
pub(crate) fn pack_directory(names: impl Iterator<Item = usize>) -> (Vec<usize>, u64) {
    let (mut counts, mut count, mut used) = (Vec::new(), 0, 0);
    for length in names {
        if used + DIRENT + length > BLOCK {
            counts.push(count);
            (count, used) = (0, 0);
        }
        count += 1;
        used += DIRENT + length;
    }
    let size = (counts.len() * BLOCK + used) as u64;
    counts.push(count);
    (counts, size)
}

/// One entry of a directory as it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dirent<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) nid: u64,
    pub(crate) file_type: u8,
}

/// Encodes a directory's sorted entries, so many to a block.
pub(crate) fn directory(entries: &[Dirent<'_>], counts: &[usize]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), entries);
    for count in counts {
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        let (block, after) = rest.split_at(*count);
        rest = after;
        let mut name_offset = DIRENT * count;
        for entry in block {
            out.extend(entry.nid.to_le_bytes());
            out.extend((name_offset as u16).to_le_bytes());
            out.extend([entry.file_type, 0]);
            name_offset += entry.name.len();
        }
        block.iter().for_each(|entry| out.extend(entry.name));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c_without_the_final_inversion() {
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn device_numbers_are_encoded_as_the_kernel_does() {
        assert_eq!(device(1, 3), 0x103);
        assert_eq!(device(0xfff, 0xf_ffff), 0xffff_ffff);
        assert_eq!(device(8, 0x1234), 0x0120_0834);
    }

    #[test]
    fn only_known_prefixes_with_a_rest_are_held() {
        assert_eq!(split_xattr(b"user.a"), Some((1, &b"a"[..])));
        assert_eq!(split_xattr(b"security.capability"), Some((6, &b"capability"[..])));
        assert_eq!(split_xattr(b"system.posix_acl_default"), Some((3, &b""[..])));
        for name in [&b"user."[..], b"system.posix_acl_access2", b"system.nfs4_acl", b"btrfs.x", b"", b"user.a\0b"] {
            assert_eq!(split_xattr(name), None);
        }
    }

    #[test]
    fn a_block_of_a_directory_is_filled_to_the_last_byte() {
        let (counts, size) = pack_directory([4096 - 24, 12, 1].into_iter());
        assert_eq!((counts, size), (vec![1, 2], 4096 + 24 + 13));
    }
}
