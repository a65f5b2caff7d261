//! `/dev/fuse` as an event loop reads and writes it: whole messages, one a call.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The largest message that the kernel writes: 1 MiB of data, and a page for what stands before it.
pub const LONGEST_REQUEST: usize = (1 << 20) + (1 << 12);

/// One opening of the device, which carries one mounted file system.
#[derive(Debug)]
pub struct FuseDevice(AsyncFd<File>);

impl FuseDevice {
    /// Opens the device and has a file system mounted on it by its number. Called within the runtime.
    ///
    /// Before it is mounted nobody may wait for it: the device would say that it is broken, and nothing more ever after.
    pub fn mounted(mount: impl FnOnce(RawFd) -> io::Result<()>) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = File::options().read(true).write(true).custom_flags(flags).open("/dev/fuse")?;
        mount(file.as_raw_fd())?;
        // SAFETY: a `File` keeps its descriptor open and the same for as long as it lives, and it lives in the `AsyncFd`.
        Ok(Self(unsafe { AsyncFd::register(file) }?))
    }

    /// Waits for a request; `room` has [`LONGEST_REQUEST`] bytes and may be shared, for it is used only at once.
    /// Cancelled, it has taken nothing. `ENODEV`: the file system was unmounted.
    pub async fn receive(&self, room: &RefCell<Vec<u8>>) -> io::Result<Vec<u8>> {
        let read = |mut file: &File| {
            let mut room = room.borrow_mut();
            let length = file.read(&mut room)?;
            Ok(room[..length].to_vec())
        };
        loop {
            match self.0.async_io(Interest::READABLE, |file| read(file)).await {
                // The request was taken back while it was being read.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
                received => return received,
            }
        }
    }

    /// Answers a request, with one call. Nobody waits for the answer of one that was given up.
    pub fn answer(&self, message: &[u8]) -> io::Result<()> {
        match self.0.get_ref().write(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            written => written.map(drop),
        }
    }
}
