//! Files of the container as tar streams, both ways. Where in the container a path leads, the container's own links say:
//! never out of its root.

use crate::cgroup::{self, Frozen};
use crate::{place, world};
use anyhow::{Context, Result};
use fcvm_archive::{Coming, Conflict, Holes, Limits, Manner, Owner, Packable, Place, Root, Trust, Writing};
use fcvm_link::{Receiver, Sender, Stream, StreamError, blocking};
use fcvm_proto::files::{self, Found, Ownership, Pack, Tree, Unpack};
use fcvm_proto::message::Done;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use tokio::task::{JoinHandle, spawn_blocking};

/// Packs what was asked for; the container is given by its first process while it runs.
pub(crate) async fn pack(request: Pack, container: Option<i32>, stream: Stream) {
    let (sender, mut receiver) = stream.split();
    if packed(&request, container, &sender).await.is_ok() {
        sender.finish();
        let _ = receiver.recv().await;
    }
}

async fn packed(request: &Pack, container: Option<i32>, sender: &Sender) -> Result<(), StreamError> {
    let root = match request.tree {
        Tree::Container => root_of(container),
        Tree::Root => rootfs(),
        Tree::View(number) => place::upper(number),
    };
    let path = PathBuf::from(&request.path);
    let found = within(spawn_blocking(move || Ok(Packable::find(&Root::open(&root)?, &path)?))).await;
    let packable = match found {
        Ok(packable) => packable.past_the_cache(),
        Err(error) => return sender.message(&Found::Failed(format!("{error:#}"))).await,
    };
    let stands = match request.still.then(|| container.and_then(cgroup::of)).flatten() {
        Some(dir) => within(spawn_blocking(move || Frozen::new(dir))).await.map(Some),
        None => Ok(None),
    };
    let _stands = match stands {
        Ok(stands) => stands,
        Err(error) => return sender.message(&Found::Failed(format!("{error:#}"))).await,
    };
    sender.message(if packable.is_directory() { &Found::Directory } else { &Found::File }).await?;
    let (writer, written) = blocking::writer();
    let (name, holes) = (request.name.clone(), if request.holes { Holes::Told } else { Holes::Filled });
    let packing = spawn_blocking(move || Ok(packable.pack(OsStr::new(&name), holes, writer).map(drop)?));
    written.send(sender).await?;
    sender.message(&done(within(packing).await)).await
}

/// Unpacks what comes; the container is given by its first process while it runs, and by the numbers of its user.
pub(crate) async fn unpack(request: Unpack, container: (Option<i32>, (u32, u32)), stream: Stream) {
    let (sender, mut receiver) = stream.split();
    let unpacked = unpacked(request, container, &mut receiver).await;
    if sender.message(&done(unpacked)).await.is_ok() {
        sender.finish();
        // What still comes after a failure is not waited for.
        let _ = receiver.recv().await;
    }
}

async fn unpacked(
    request: Unpack,
    (container, (uid, gid)): (Option<i32>, (u32, u32)),
    receiver: &mut Receiver,
) -> Result<()> {
    let root = root_of(container);
    let manner = Manner {
        owner: match request.owner {
            Ownership::Container => Owner::Given(uid, gid),
            Ownership::Told => Owner::Told,
        },
        conflict: if request.overwrite { Conflict::Replaced } else { Conflict::Refused },
        trust: Trust::Full,
        limits: Limits { entries: u64::MAX, bytes: u64::MAX },
        writing: Writing::Direct,
    };
    let (feed, reader) = blocking::reader();
    let unpacking = spawn_blocking(move || {
        let coming = match &request.coming {
            files::Coming::File(name) => Coming::File(OsStr::new(name)),
            files::Coming::Directory(name) => Coming::Directory(OsStr::new(name)),
            files::Coming::Contents => Coming::Contents,
            files::Coming::Archive => Coming::Archive,
        };
        let place = Place::find(&Root::open(&root)?, Path::new(&request.path), coming)?;
        Ok(fcvm_archive::unpack(reader, place, &manner).map(drop)?)
    });
    let _the_thread_hears_of_a_failure = feed.take(receiver).await;
    drop(feed);
    within(unpacking).await
}

/// The root as the container's processes have it; where none runs, as the next will.
fn root_of(container: Option<i32>) -> PathBuf {
    container.map_or_else(rootfs, |pid| format!("/proc/{pid}/root").into())
}

pub(crate) fn rootfs() -> PathBuf {
    Path::new(world::DIR).join("rootfs")
}

async fn within<T>(work: JoinHandle<Result<T>>) -> Result<T> {
    work.await.context("the thread died")?
}

fn done(result: Result<()>) -> Done {
    result.map_or_else(|error| Done::Failed(format!("{error:#}")), |()| Done::Ok)
}
