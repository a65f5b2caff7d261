//! Volumes that are more than what the host shows: places on the scratch disk, views of the VM's own, contents from the
//! image, other owners. Made ready before the container starts; a life that follows another finds what that left.
//!
//! Files of volumes are touched here, so none of this happens on the agent's own thread.

use crate::{scratch, volume, world};
use anyhow::{Context, Result};
use fcvm_archive::{Conflict, Holes, Limits, Manner, Owner, Packable, Place as Into, Root, Trust, Writing};
use fcvm_proto::plan::{Keeper, Place};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

/// Where views are mounted, each at its number.
pub(crate) const VIEWS: &str = "/run/fcvm/views";
/// A directory of the scratch disk that is made ready under another name.
const UNREADY: &str = "unready";

/// Makes places ready for a container whose user has these numbers.
pub(crate) async fn prepare(places: Vec<Place>, owner: (u32, u32)) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let all = move || places.iter().try_for_each(|place| ready(place, owner));
    tokio::task::spawn_blocking(all).await.context("the thread died")?
}

/// Where the layer of a view is that holds what was written to it.
pub(crate) fn upper(number: u32) -> PathBuf {
    on_scratch("views", number).join("upper")
}

/// What a view lies on.
pub(crate) fn lower(number: u32) -> PathBuf {
    Path::new(volume::DIR).join(number.to_string())
}

fn on_scratch(kind: &str, number: u32) -> PathBuf {
    Path::new(scratch::PLACE).join(kind).join(number.to_string())
}

fn ready(place: &Place, owner: (u32, u32)) -> Result<()> {
    let dir = match place.keeper {
        Keeper::Host => lower(place.number),
        Keeper::View => view(place.number).with_context(|| format!("make the view of {}", place.target))?,
        Keeper::Scratch => {
            let dir = on_scratch("volumes", place.number);
            if dir.is_dir() {
                return Ok(());
            }
            return own(place, &dir, owner).with_context(|| format!("make the volume {}", place.target));
        }
    };
    fill(place, &dir, owner).with_context(|| format!("copy what the image has at {}", place.target))?;
    give(place, &dir, owner).with_context(|| format!("change the owner of {}", place.target))
}

/// A directory is whole or not there, so that a machine that died meanwhile leaves no half of one.
fn own(place: &Place, dir: &Path, owner: (u32, u32)) -> Result<()> {
    let unready = dir.with_file_name(UNREADY);
    let _from_an_attempt_before = fs::remove_dir_all(&unready);
    fs::create_dir_all(&unready)?;
    fill(place, &unready, owner)?;
    give(place, &unready, owner)?;
    Ok(fs::rename(unready, dir)?)
}

/// Mounts a view: what the host shows below, what the VM writes above.
fn view(number: u32) -> Result<PathBuf> {
    let (dir, upper, work) =
        (Path::new(VIEWS).join(number.to_string()), upper(number), on_scratch("views", number).join("work"));
    for dir in [&dir, &upper, &work] {
        fs::create_dir_all(dir)?;
    }
    let like = fs::metadata(lower(number))?;
    fs::set_permissions(&upper, like.permissions())?;
    lchown(&upper, Some(like.uid()), Some(like.gid()))?;
    let layers =
        format!("lowerdir={},upperdir={},workdir={}", lower(number).display(), upper.display(), work.display());
    // What was changed is read from the upper layer alone: it holds whole files.
    let options = CString::new(format!("{layers},metacopy=off,redirect_dir=off,index=off,xino=off"))?;
    mount("overlay", &dir, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
    Ok(dir)
}

/// Copies what the image has at the place, attributes of the directory itself too, into one that is empty. Where the image
/// has nothing, the container's user is its owner, as with podman.
fn fill(place: &Place, dir: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    if !place.copy || fs::read_dir(dir)?.next().is_some() {
        return Ok(());
    }
    let rootfs = Path::new(world::DIR).join("rootfs");
    let found = Packable::find(&Root::open(&rootfs)?, Path::new(&place.target));
    let packable = match found {
        Ok(packable) if packable.is_directory() => packable,
        Ok(_) => return Ok(()),
        Err(_) => return chown(dir, uid, gid),
    };
    let (uid, gid, mode) = packable.owner_and_mode();
    let (reader, writer) = io::pipe()?;
    let packing = std::thread::spawn(move || packable.pack(OsStr::new(""), Holes::Told, writer).map(drop));
    let manner = Manner {
        owner: Owner::Told,
        conflict: Conflict::Refused,
        trust: Trust::Full,
        limits: Limits { entries: u64::MAX, bytes: u64::MAX },
        writing: Writing::Cached,
    };
    fcvm_archive::unpack(reader, Into::Into(Root::open(dir)?), &manner)?;
    packing.join().map_err(|_| anyhow::anyhow!("the thread died"))??;
    chown(dir, uid, gid)?;
    Ok(fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(mode))?)
}

/// Gives all that is in a place to the container's user.
fn give(place: &Place, dir: &Path, (uid, gid): (u32, u32)) -> Result<()> {
    if !place.chown {
        return Ok(());
    }
    let mut pending = vec![dir.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        if (metadata.uid(), metadata.gid()) != (uid, gid) {
            chown(&path, uid, gid)?;
        }
        if metadata.is_dir() {
            let entries = fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path()));
            pending.extend(entries.collect::<io::Result<Vec<_>>>()?);
        }
    }
    Ok(())
}

/// Where the host serves all files as one user's there are no others to give them to.
fn chown(path: &Path, uid: u32, gid: u32) -> Result<()> {
    match lchown(path, Some(uid), Some(gid)) {
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => Ok(()),
        changed => Ok(changed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_whole_and_only_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/file"), "x").unwrap();
        let own = fs::metadata(dir.path()).unwrap();
        let owner = (own.uid(), own.gid());
        let place = |chown| Place { number: 0, target: "/x".to_owned(), keeper: Keeper::Host, copy: false, chown };
        give(&place(true), dir.path(), owner).unwrap();
        give(&place(false), Path::new("/nowhere"), owner).unwrap();
        assert!(give(&place(true), Path::new("/nowhere"), owner).is_err());
    }
}
