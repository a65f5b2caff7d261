//! What every guest's kernel is told, whatever the monitor.

/// Be quiet but for what breaks, end with the monitor after a panic, and leave out what takes time and has no use in a
/// machine that lives for one container.
pub(crate) const PARAMETERS: &[&str] = &[
    "quiet",
    "loglevel=4",
    "panic=-1",
    "mitigations=off",
    "nopti",
    "nokaslr",
    "cryptomgr.notests",
    "rcupdate.rcu_expedited=1",
];
