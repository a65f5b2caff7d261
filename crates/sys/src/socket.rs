//! The address of a socket in the file system: its whole path may be longer than an address can be.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A short path of a socket, for this process and as long as this lives.
#[derive(Debug)]
pub struct Address {
    _dir: OwnedFd,
    path: PathBuf,
}

impl Address {
    /// Shortens a path. The socket need not be there, its directory must.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { _dir: dir, path })
    }

    /// Returns it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_socket_far_down_is_made_and_found() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("d".repeat(100)).join("d".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let _listener = UnixListener::bind(Address::of(&deep.join("socket")).unwrap().path()).unwrap();
        UnixStream::connect(Address::of(&deep.join("socket")).unwrap().path()).unwrap();
        assert!(Address::of(Path::new("/")).is_err());
    }
}
