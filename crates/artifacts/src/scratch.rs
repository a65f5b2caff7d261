//! The scratch disk: an empty ext4 made once, and a sparse copy of it for every VM.

use crate::Error;
use crate::tool::{self, Tools};
use rustix::fs::SeekFrom;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The size of a scratch disk in GiB. It is sparse: what is not written takes no space.
const SIZE_GIB: u64 = 10;

/// The template's path.
pub(crate) fn template(dir: &Path) -> PathBuf {
    dir.join(format!("{SIZE_GIB}G-v1.ext4"))
}

/// Makes the template if it is not there.
///
/// No journal: a scratch disk is never used after its machine died. Few and packed tables: every byte of them is copied
/// for every VM.
pub(crate) fn ensure_template(tools: &Tools, dir: &Path) -> Result<(), Error> {
    let path = template(dir);
    if path.is_file() {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    let file = File::create(&temporary).map_err(Error::file("create", &temporary))?;
    file.set_len(SIZE_GIB << 30).map_err(Error::file("size", &temporary))?;
    drop(file);
    let mut command = tools.command("mke2fs", "e2fsprogs")?;
    command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-L", "fcvm-scratch", "-i", "32768", "-G", "256"]);
    command.args(["-O", "^has_journal,^resize_inode,sparse_super2,^metadata_csum", "-E"]);
    command.arg("lazy_itable_init=1,nodiscard,packed_meta_blocks=1,root_owner=0:0,num_backup_sb=0");
    tool::run(command.arg(&temporary))?;
    // mke2fs reserves what it leaves empty; a copy does not.
    let packed = path.with_extension("packed");
    let _ = fs::remove_file(&packed);
    copy(&temporary, &packed)?;
    fs::rename(&packed, &path).map_err(Error::file("rename", &packed))?;
    fs::remove_file(&temporary).map_err(Error::file("remove", &temporary))
}

/// Copies the data of a sparse file and leaves its holes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let source = File::open(from).map_err(Error::file("open", from))?;
    let target = File::options().write(true).create_new(true).open(to).map_err(Error::file("create", to))?;
    let copied = clone(&source, &target).or_else(|_| copy_data(&source, &target));
    copied.map_err(|error| {
        let _ = fs::remove_file(to);
        Error::file("write", to)(error)
    })
}

/// Shares the data where the file system can.
fn clone(source: &File, target: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(target, source)?)
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut buffer = vec![0; 1 << 20];
    let mut place = 0;
    while let Ok(start) = rustix::fs::seek(source, SeekFrom::Data(place)) {
        let end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
        let mut at = start;
        while at < end {
            let wanted = buffer.len().min((end - at) as usize);
            let read = source.read_at(&mut buffer[..wanted], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            target.write_all_at(&buffer[..read], at)?;
            at += read as u64;
        }
        place = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_data_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let source = File::create(&from).unwrap();
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"begin", 0).unwrap();
        source.write_all_at(b"middle", 32 << 20).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_scratch_disk_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert!(copy(&from, &to).is_err());
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
    }
}
