//! The kernel's clock for files.

use rustix::fs::Stat;
use std::io;

/// The change time, in nanoseconds since 1970, that a file of this machine would have that is changed now.
///
/// It is not the time of day: it goes on by ticks of up to 10 ms, and since Linux 6.13 sometimes by less. So the kernel is
/// asked for a file, of which nothing else is used. What was changed before has this time or an earlier one.
pub fn now_ns() -> io::Result<i64> {
    Ok(changed_ns(&rustix::fs::fstat(crate::memfd::growing("stamp")?)?))
}

/// The change time of a file, in nanoseconds since 1970.
pub fn changed_ns(stat: &Stat) -> i64 {
    stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_before_is_no_newer_and_what_is_changed_later_becomes_newer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let change = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            changed_ns(&rustix::fs::fstat(&file).unwrap())
        };
        for _ in 0..1000 {
            assert!(change("before") <= now_ns().unwrap());
        }
        let stamp = now_ns().unwrap();
        while change("after") <= stamp {}
        assert!(now_ns().unwrap() > stamp);
    }
}
