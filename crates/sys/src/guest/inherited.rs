//! Descriptors that a program was started with.

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that this program inherited under a number that its arguments name. To be called once for each
/// number, before anything else is opened. It is not passed on to the next program.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not negative, and the borrow ends before anything could close it: this only asks the kernel
    // whether it is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor is open (the call above succeeded), was inherited, and is taken once: nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
