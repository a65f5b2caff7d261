//! Signals by number: the real-time ones have no names, and programs such as systemd are stopped by one.

use std::io;

/// Sends a signal, from 1 to 64, to one process. Refused for numbers that mean several processes.
pub fn send_signal(pid: i32, number: i32) -> io::Result<()> {
    if pid <= 0 || !(1..=64).contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it takes two numbers and touches no memory of ours; both were checked above.
    let sent = unsafe { libc::kill(pid, number) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_real_time_signal_arrives() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        send_signal(child.id() as i32, 37).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(37));
    }

    #[test]
    fn groups_everyone_and_what_is_no_signal_are_refused() {
        for (pid, number) in [(0, 9), (-1, 9), (1, 0), (1, 65)] {
            assert!(send_signal(pid, number).is_err(), "{pid} {number}");
        }
    }
}
