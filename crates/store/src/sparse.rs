//! Copies of files that are mostly holes: disks and memory.

use crate::Error;
use rustix::fs::SeekFrom;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Copies a file into a new one: shares the data where the file system can, else copies it and leaves the holes.
pub fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let source = File::open(from).map_err(Error::file("open", from))?;
    let target = File::options().write(true).create_new(true).open(to).map_err(Error::file("create", to))?;
    let copied = clone(&source, &target).or_else(|_| copy_data(&source, &target));
    copied.map_err(|error| {
        let _ = fs::remove_file(to);
        Error::file("write", to)(error)
    })
}

/// How much of a file is no hole, in bytes.
pub fn allocated(path: &Path) -> Result<u64, Error> {
    let metadata = fs::metadata(path).map_err(Error::file("measure", path))?;
    Ok(metadata.blocks() * 512)
}

/// Shares the data where the file system can.
fn clone(source: &File, target: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(target, source)?)
}

fn copy_data(source: &File, target: &File) -> io::Result<()> {
    target.set_len(source.metadata()?.len())?;
    for_each_piece(source, |place, bytes| target.write_all_at(bytes, place))
}

/// Calls `take` with the place and the bytes of each piece of a file that is no hole, in their order.
pub fn for_each_piece(file: &File, mut take: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut place = 0;
    while let Some(part) = next_part(file, place)? {
        let mut at = part.start;
        while at < part.end {
            let wanted = buffer.len().min((part.end - at) as usize);
            let read = file.read_at(&mut buffer[..wanted], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(at, &buffer[..read])?;
            at += read as u64;
        }
        place = part.end;
    }
    Ok(())
}

/// The next part of a file that is no hole.
fn next_part(file: &File, place: u64) -> io::Result<Option<Range<u64>>> {
    match rustix::fs::seek(file, SeekFrom::Data(place)) {
        Ok(start) => Ok(Some(start..rustix::fs::seek(file, SeekFrom::Hole(start))?)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
