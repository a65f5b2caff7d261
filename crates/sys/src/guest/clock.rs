//! The guest's clock, set from the host's.

use std::io;

/// Sets the wall clock to nanoseconds since 1970.
pub fn set_clock(time_ns: i64) -> io::Result<()> {
    let time = rustix::time::Timespec {
        tv_sec: time_ns.div_euclid(1_000_000_000),
        tv_nsec: time_ns.rem_euclid(1_000_000_000),
    };
    Ok(rustix::time::clock_settime(rustix::time::ClockId::Realtime, time)?)
}

/// Moves the wall clock by nanoseconds. It can be off by what passes between two system calls.
pub fn shift_clock(by_ns: i64) -> io::Result<()> {
    if by_ns == 0 {
        return Ok(());
    }
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    set_clock((now.tv_sec * 1_000_000_000 + now.tv_nsec).saturating_add(by_ns))
}
