//! `save`: images of this store as others have them. An image here is a disk and no longer the layers that it came in, so
//! each is saved as one layer; the same image gives the same bytes.

use crate::bundle::{Bundle, LayerWriter};
use crate::{Digest, Error, Image, Images};
use fcvm_archive::{Attributes, Entry, EntryKind, Timestamp, Writer};
use fcvm_erofs::{Item, Kind, Reader};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

const BUFFER: usize = 256 << 10;

impl Images {
    /// Bundles images, each with the names that it is to have. Blocks.
    pub fn pack(&self, images: &[(Image, Vec<String>)]) -> Result<Bundle, Error> {
        let mut bundle = self.bundle()?;
        for (image, names) in images {
            let _stays = self.hold(image)?;
            let layer = bundle.add(layer(&image.disk, bundle.layer()?)?)?;
            let config = self.store().configuration(image)?;
            match of_one_layer(&config, &layer.digest)? {
                Some(config) => bundle.describe(config, layer, names)?,
                None => bundle.describe_as(config.as_bytes(), layer, names)?,
            }
        }
        Ok(bundle)
    }
}

/// What is said about an image that has one layer from now on; nothing if it has that one already, and so its id stays.
fn of_one_layer(config: &str, layer: &Digest) -> Result<Option<Value>, Error> {
    let mut config: Value =
        serde_json::from_str(config).map_err(|error| Error::malformed("an image's configuration", error))?;
    if config["rootfs"]["diff_ids"] == json!([layer.to_string()]) {
        return Ok(None);
    }
    // One layer, and so one line of the history that has any.
    if let Some(lines) = config.get_mut("history").and_then(Value::as_array_mut) {
        let with = lines.iter().rposition(|line| line["empty_layer"] != json!(true)).or(lines.len().checked_sub(1));
        for (index, line) in lines.iter_mut().enumerate() {
            let Some(line) = line.as_object_mut() else { continue };
            line.remove("empty_layer");
            if Some(index) != with {
                line.insert("empty_layer".to_owned(), json!(true));
            }
        }
    }
    Ok(Some(config))
}

/// Writes the files of a disk as a layer.
fn layer(disk: &Path, layer: LayerWriter) -> Result<LayerWriter, Error> {
    let reader = File::open(disk).and_then(Reader::new).map_err(Error::file("read the disk", disk))?;
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER, layer));
    let mut names = HashMap::new();
    for item in reader.walk() {
        let item = item.map_err(Error::file("read the disk", disk))?;
        if let Some(entry) = entry(&item, &mut names) {
            writer.file(&entry, reader.contents(&item)).map_err(Error::file("save the disk", disk))?;
        }
    }
    let written = writer.finish().and_then(|buffer| buffer.into_inner().map_err(io::Error::from));
    written.map_err(Error::file("save the disk", disk))
}

/// What an archive says of a file; nothing of sockets, which are nothing without who listens.
fn entry(item: &Item, names: &mut HashMap<u64, Vec<u8>>) -> Option<Entry> {
    let path = item.path.clone();
    if item.links > 1 && item.kind() != Kind::Directory {
        if let Some(first) = names.get(&item.number) {
            let mut entry = Entry::of(EntryKind::HardLink, path, attributes(item));
            entry.target = first.clone();
            return Some(entry);
        }
        names.insert(item.number, path.clone());
    }
    let kind = match item.kind() {
        Kind::Directory => {
            let path = if path.is_empty() { b"./".to_vec() } else { [path.as_slice(), b"/"].concat() };
            return Some(Entry::of(EntryKind::Directory, path, attributes(item)));
        }
        Kind::File { .. } => EntryKind::File,
        Kind::Symlink(_) => EntryKind::Symlink,
        Kind::CharDevice { .. } => EntryKind::CharDevice,
        Kind::BlockDevice { .. } => EntryKind::BlockDevice,
        Kind::Fifo => EntryKind::Fifo,
        Kind::Socket => return None,
    };
    let mut entry = Entry::of(kind, path, attributes(item));
    match item.kind() {
        Kind::File { size } => entry.size = size,
        Kind::Symlink(target) => entry.target = target.to_vec(),
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => entry.device = (major, minor),
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    Some(entry)
}

fn attributes(item: &Item) -> Attributes {
    let fcvm_erofs::Attributes { mode, uid, gid, mtime, xattrs } = item.attributes.clone();
    let mtime = Timestamp { seconds: mtime.seconds, nanoseconds: mtime.nanoseconds };
    Attributes { mode, uid, gid, mtime, xattrs }
}
