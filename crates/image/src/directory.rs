//! `--rootfs DIR`: a directory of the host becomes a disk. Owners are as the host shows them; other file systems that are
//! mounted below are left out.

use crate::convert::locate;
use crate::layer::{Limits, disk_error};
use crate::store::{Claim, ImageStore};
use crate::{Digest, Error, Image, Platform};
use fcvm_erofs::{Attributes, Content, NodeId, Timestamp, Writer};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const XATTR_LIST_MAX: usize = 64 << 10;

/// Computes an identity for a directory: it changes when any name, size, owner, mode or time below it does.
pub fn directory_key(dir: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    walk(dir, |path, metadata| {
        let relative = path.strip_prefix(dir).unwrap_or(path);
        hash.update(relative.as_os_str().as_bytes());
        let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
        hash.update(format!("\0{} {} {} {seconds} {nanoseconds}\n", metadata.mode(), metadata.ino(), metadata.size()));
        Ok(())
    })?;
    Ok(Digest::from_hash(hash).hex())
}

/// Makes a disk of a directory unless there is one for the key.
pub(crate) fn import(store: &ImageStore, dir: &Path, key: &str, limits: &Limits) -> Result<Image, Error> {
    let Platform { os, architecture, .. } = Platform::host();
    let identity = Digest::of(key.as_bytes()).to_string();
    let config = serde_json::json!({
        "os": os, "architecture": architecture, "config": { "Labels": { "fcvm.rootfs": identity } },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let config = config.to_string();
    let building = match store.claim(&Digest::of(config.as_bytes()))? {
        Claim::Present(image) => return Ok(*image),
        Claim::Absent(building) => building,
    };
    let written = write(dir, building.disk()?, limits, crate::convert::uuid(config.as_bytes()));
    let disk = written.map_err(|error| locate(error, &building))?;
    building.publish(&disk, config, None, Vec::new())
}

/// Makes a disk of a directory that is no image: a file of its own. Blocks.
pub fn disk_of_directory(dir: &Path, into: &Path) -> Result<(), Error> {
    let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(into);
    let file = file.map_err(Error::file("create", into))?;
    let uuid = crate::convert::uuid(dir.as_os_str().as_bytes());
    let written = write(dir, file, &Limits::default(), uuid);
    written.map(drop).inspect_err(|_| drop(fs::remove_file(into)))
}

fn write(dir: &Path, file: File, limits: &Limits, uuid: [u8; 16]) -> Result<File, Error> {
    let writer = Writer::new(file, limits.disk).map_err(Error::Disk)?;
    let mut import = Import { dirs: HashMap::new(), seen: HashMap::new(), writer };
    walk(dir, |path, metadata| import.add(dir, path, metadata))?;
    Ok(import.writer.finish(uuid).map_err(Error::Disk)?.file)
}

/// Visits a directory and all below it, parents first, in the order of names.
fn walk(dir: &Path, mut visit: impl FnMut(&Path, &Metadata) -> Result<(), Error>) -> Result<(), Error> {
    let root = fs::metadata(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::NotFound { reference: dir.display().to_string(), reason: "the directory does not exist".into() }
        }
        _ => Error::file("read", dir)(error),
    })?;
    visit(dir, &root)?;
    let mut pending = vec![dir.to_owned()];
    while let Some(parent) = pending.pop() {
        let failed = |error| Error::file("read directory", &parent)(error);
        let entries = fs::read_dir(&parent).map_err(failed)?;
        let mut names =
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>().map_err(failed)?;
        names.sort();
        let before = pending.len();
        for name in names {
            let path = parent.join(name);
            let metadata = fs::symlink_metadata(&path).map_err(Error::file("read", &path))?;
            visit(&path, &metadata)?;
            if metadata.is_dir() && metadata.dev() == root.dev() {
                pending.push(path);
            }
        }
        pending[before..].reverse();
    }
    Ok(())
}

struct Import {
    writer: Writer,
    dirs: HashMap<PathBuf, NodeId>,
    /// Files with several names, by device and inode.
    seen: HashMap<(u64, u64), NodeId>,
}

impl Import {
    fn add(&mut self, root: &Path, path: &Path, metadata: &Metadata) -> Result<(), Error> {
        let attributes = attributes(path, metadata)?;
        let wrong = |error| disk_error(path.as_os_str().as_bytes(), error);
        if path == root {
            let node = self.writer.root();
            self.dirs.insert(path.to_owned(), node);
            return self.writer.set_attributes(node, attributes).map_err(wrong);
        }
        let parent = path.parent().and_then(|parent| self.dirs.get(parent)).copied().expect("parents come first");
        let name = path.file_name().expect("what is below a directory has a name").as_bytes();
        let identity = (metadata.dev(), metadata.ino());
        if let Some(node) = self.seen.get(&identity) {
            return self.writer.link(parent, name, *node).map_err(wrong);
        }
        let node = self.node((parent, name), path, metadata, attributes)?;
        if metadata.is_dir() {
            self.dirs.insert(path.to_owned(), node);
        } else if metadata.nlink() > 1 {
            self.seen.insert(identity, node);
        }
        Ok(())
    }

    fn node(
        &mut self,
        (parent, name): (NodeId, &[u8]),
        path: &Path,
        metadata: &Metadata,
        attributes: Attributes,
    ) -> Result<NodeId, Error> {
        let kind = metadata.file_type();
        let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        let (target, mut file);
        let content = if kind.is_dir() {
            Content::Directory
        } else if kind.is_symlink() {
            target = fs::read_link(path).map_err(Error::file("read", path))?.into_os_string().into_vec();
            Content::Symlink(&target)
        } else if kind.is_char_device() {
            Content::CharDevice { major, minor }
        } else if kind.is_block_device() {
            Content::BlockDevice { major, minor }
        } else if kind.is_fifo() {
            Content::Fifo
        } else if kind.is_socket() {
            Content::Socket
        } else {
            let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
            let opened = File::options().read(true).custom_flags(flags).open(path);
            file = opened.map_err(Error::file("open", path))?;
            Content::File { size: metadata.size(), data: &mut file }
        };
        let added = self.writer.add(parent, name, attributes, content);
        added.map_err(|error| disk_error(path.as_os_str().as_bytes(), error))
    }
}

fn attributes(path: &Path, metadata: &Metadata) -> Result<Attributes, Error> {
    Ok(Attributes {
        mode: (metadata.mode() & 0o7777) as u16,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: Timestamp { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() as u32 },
        xattrs: xattrs(path).map_err(|error| Error::file("read the attributes of", path)(error.into()))?,
    })
}

/// Reads the extended attributes that a disk can hold.
fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut list = Vec::with_capacity(XATTR_LIST_MAX);
    match rustix::fs::llistxattr(path, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    }
    let mut found = BTreeMap::new();
    for name in list.split(|byte| *byte == 0).filter(|name| crate::layer::keeps_xattr(name)) {
        let mut value = Vec::with_capacity(XATTR_LIST_MAX);
        match rustix::fs::lgetxattr(path, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => drop(found.insert(name.to_vec(), value)),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
