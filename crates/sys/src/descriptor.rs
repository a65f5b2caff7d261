//! Descriptors that go to another process: across a socket, and to fixed numbers before an exec.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// The most descriptors that one message carries; Linux would take 253.
pub const MOST: usize = 64;

/// Sends `bytes` with descriptors beside them; returns how many bytes went. There must be at least one byte.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if descriptors.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors));
    debug_assert!(fits, "the space was reserved for that many");
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives bytes and the descriptors beside them (close-on-exec); returns how many bytes came, 0 at the end.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    Ok((received.bytes, descriptors))
}

/// Moves a descriptor to a number of at least `least`, close-on-exec.
pub(crate) fn move_up(fd: OwnedFd, least: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, least)?)
}

/// Closes every descriptor of this process from `first` on but the given ones, which are moved there. Only for a process
/// that holds no other `OwnedFd`, as one that has just begun.
pub(crate) fn keep_only(descriptors: Vec<OwnedFd>, first: RawFd) -> io::Result<Vec<OwnedFd>> {
    let count = RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
    place(descriptors, first)?;
    let last = u32::MAX;
    // SAFETY: no `OwnedFd` of this process names a number above those that were just placed, as the caller promises.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first + count, last, 0) };
    if closed < 0 {
        return Err(io::Error::last_os_error());
    }
    let own = |number| {
        // SAFETY: the descriptor was placed at this number, is open, and belongs to nobody else: each is taken once.
        let owned = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
        Ok(owned)
    };
    (first..first + count).map(own).collect()
}

/// Puts the descriptors at `first`, `first + 1`, … to be inherited by the next exec, and marks every one above as
/// close-on-exec. What was at those numbers is closed, so only a process that is about to exec does this, and all that
/// it still needs lies above.
pub(crate) fn place(descriptors: Vec<OwnedFd>, first: RawFd) -> io::Result<()> {
    let end = first + RawFd::try_from(descriptors.len()).unwrap_or(RawFd::MAX);
    let above = descriptors.into_iter().map(|fd| move_up(fd, end)).collect::<io::Result<Vec<_>>>()?;
    for (fd, number) in above.into_iter().zip(first..end) {
        // SAFETY: no `OwnedFd` of this process names `number`: the given ones were just moved above `end`, and the
        // caller keeps nothing else below it.
        let mut target = unsafe { OwnedFd::from_raw_fd(number) };
        rustix::io::dup2(&fd, &mut target)?;
        let _stays_open = target.into_raw_fd();
    }
    close_on_exec_from(end)
}

fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: `close_range` with this flag takes three numbers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

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

/// Returns the number of a descriptor as `/proc/self/fd` and command lines write it.
pub fn number(fd: &impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_cross_a_socket_beside_their_bytes() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut a, b) = UnixStream::pair().unwrap();
        assert_eq!(send(&ours, b"x", &[b.as_fd()]).unwrap(), 1);
        drop(b);
        let mut byte = [0];
        let (count, mut received) = receive(&theirs, &mut byte).unwrap();
        assert_eq!((count, &byte, received.len()), (1, b"x", 1));
        let mut crossed = UnixStream::from(received.remove(0));
        io::Write::write_all(&mut crossed, b"y").unwrap();
        io::Read::read_exact(&mut a, &mut byte).unwrap();
        assert_eq!(&byte, b"y");
    }

    #[test]
    fn too_many_descriptors_are_refused() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let many = vec![ours.as_fd(); MOST + 1];
        assert_eq!(send(&ours, b"x", &many).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
