//! From a source to a disk: blobs are fetched three at a time while those that are there are merged in their order.

use crate::digest::Hashing;
use crate::layer::{Limited, Limits, Merge, decompress, unreadable};
use crate::manifest::Descriptor;
use crate::store::Building;
use crate::transport::{Blob, Cancel, Resolved, Transport, Trust};
use crate::{Digest, Error, Image, Phase, Progress, Update};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// As many as podman fetches at a time by default.
const PARALLEL: usize = 3;

/// An image that is about to be made.
pub(crate) struct Conversion<'a> {
    pub(crate) transport: &'a dyn Transport,
    pub(crate) resolved: &'a Resolved,
    /// The digests of the layers' plain streams.
    pub(crate) diff_ids: &'a [Digest],
    pub(crate) limits: &'a Limits,
    pub(crate) progress: &'a dyn Progress,
}

impl Conversion<'_> {
    /// Makes the image.
    pub(crate) fn run(&self, building: Building) -> Result<Image, Error> {
        let merge = Merge::new(building.disk()?, self.limits)?;
        let merged = self.fetch_and_merge(merge);
        let disk = merged.and_then(|merge| merge.finish(uuid(&self.resolved.config)));
        let disk = disk.map_err(|error| locate(error, &building))?.file;
        let config = String::from_utf8(self.resolved.config.clone());
        let config = config.map_err(|error| Error::malformed("an image's configuration", error))?;
        let layers = self.resolved.layers.iter().map(|layer| layer.digest).collect();
        building.publish(&disk, config, self.resolved.manifest, layers)
    }

    fn fetch_and_merge(&self, merge: Merge) -> Result<Merge, Error> {
        let (next, cancel) = (AtomicUsize::new(0), Cancel::default());
        let (sender, blobs) = mpsc::sync_channel(PARALLEL);
        thread::scope(|scope| {
            for _ in 0..PARALLEL.min(self.resolved.layers.len()) {
                let (sender, next, cancel) = (sender.clone(), &next, &cancel);
                scope.spawn(move || self.fetch(next, &sender, cancel));
            }
            drop(sender);
            let mut queue = Queue { blobs, early: BTreeMap::new() };
            let merged = self.merge_all(merge, &mut queue);
            // Whoever still fetches does so for nothing if this failed.
            cancel.cancel();
            drop(queue);
            merged
        })
    }

    /// Fetches layers until there are no more or nobody wants them.
    fn fetch(&self, next: &AtomicUsize, sender: &mpsc::SyncSender<Fetched>, cancel: &Cancel) {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(layer) = self.resolved.layers.get(index) else { return };
            if cancel.check().is_err() {
                return;
            }
            let blob = self.transport.open(layer, self.progress, cancel);
            let failed = blob.is_err();
            if sender.send((index, blob)).is_err() || failed {
                return;
            }
        }
    }

    fn merge_all(&self, mut merge: Merge, queue: &mut Queue) -> Result<Merge, Error> {
        let mut left = self.limits.unpacked;
        for (index, (layer, diff_id)) in self.resolved.layers.iter().zip(self.diff_ids).enumerate() {
            let blob = queue.take(index)?;
            let name = layer.digest.to_string();
            let counted =
                Counted { inner: blob.reader, done: 0, total: layer.size, name: &name, progress: self.progress };
            let mut hashed = Hashing::new(counted);
            match (merge_one(&mut merge, &mut hashed, &mut left), blob.trust) {
                (Ok(actual), Trust::Checked) => check_plain(&name, diff_id, &actual)?,
                (Ok(actual), Trust::Unchecked) => {
                    check_blob(hashed, layer)?;
                    check_plain(&name, diff_id, &actual)?;
                }
                // A blob that is not the promised one is the cause of what was found in it.
                (Err(Error::Malformed { what, reason }), Trust::Unchecked) => {
                    check_blob(hashed, layer)?;
                    return Err(Error::Malformed { what, reason });
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(merge)
    }
}

/// Says where the disk is when it cannot be written.
pub(crate) fn locate(error: Error, building: &Building) -> Error {
    match error {
        Error::Disk(fcvm_erofs::Error::Write(error)) => Error::of_io("write", &building.disk_path(), error),
        error => error,
    }
}

/// The disk's identity: the beginning of the image's.
pub(crate) fn uuid(config: &[u8]) -> [u8; 16] {
    let digest = Digest::of(config);
    digest.bytes()[..16].try_into().expect("16 of 32 bytes")
}

type Fetched = (usize, Result<Blob, Error>);

/// Blobs in the order of their layers, however they arrive.
struct Queue {
    blobs: mpsc::Receiver<Fetched>,
    early: BTreeMap<usize, Blob>,
}

impl Queue {
    /// Waits for the blob of a layer; the failure of any ends the wait.
    fn take(&mut self, index: usize) -> Result<Blob, Error> {
        loop {
            if let Some(blob) = self.early.remove(&index) {
                return Ok(blob);
            }
            let (arrived, blob) = self.blobs.recv().map_err(|_| Error::Cancelled)?;
            self.early.insert(arrived, blob?);
        }
    }
}

/// Merges one layer and returns the digest of its plain stream.
fn merge_one(merge: &mut Merge, blob: &mut dyn Read, left: &mut u64) -> Result<Digest, Error> {
    let mut plain = Hashing::new(Limited { inner: decompress(blob)?, left });
    merge.layer(&mut plain)?;
    Ok(plain.finish().0)
}

fn check_plain(name: &str, diff_id: &Digest, actual: &Digest) -> Result<(), Error> {
    if actual == diff_id { Ok(()) } else { Err(Error::mismatch(format!("layer {name} unpacked"), diff_id, actual)) }
}

/// Reads what decompression left of a blob and compares the whole with its descriptor.
fn check_blob<R: Read>(mut hashed: Hashing<R>, layer: &Descriptor) -> Result<(), Error> {
    io::copy(&mut (&mut hashed).take(layer.size + 1), &mut io::sink()).map_err(unreadable)?;
    let (actual, size) = hashed.finish();
    let what = format!("layer {}", layer.digest);
    if size != layer.size {
        let (expected, actual) = (format!("{} bytes", layer.size), format!("{size} bytes"));
        return Err(Error::DigestMismatch { what, expected, actual });
    }
    if actual != layer.digest { Err(Error::mismatch(what, &layer.digest, &actual)) } else { Ok(()) }
}

/// A blob that tells how far it was read.
struct Counted<'a, R> {
    inner: R,
    done: u64,
    total: u64,
    name: &'a str,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        let (item, total) = (self.name, self.total);
        // What lies about its size is found out at the end; until then no more than all was done.
        self.progress.update(&Update { phase: Phase::Merge, item, done: self.done.min(total), total });
        Ok(count)
    }
}
