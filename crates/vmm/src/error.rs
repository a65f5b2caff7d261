//! How starting or steering a monitor fails.

use std::path::PathBuf;

/// A failure around a monitor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No monitor is installed. The hint (a package's name) is separate.
    #[error("no {program} was found in the search path")]
    NoMonitor {
        /// The program that was looked for.
        program: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// The specification asks for what the monitor cannot do.
    #[error("{monitor} cannot run this machine: {reason}")]
    Unsupported {
        /// The monitor.
        monitor: &'static str,
        /// One clause.
        reason: String,
    },
    /// A file of the machine cannot be used.
    #[error("cannot use {path} as the machine's {role}")]
    File {
        /// Kernel, initramfs, disk or console log.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something of the host that the machine needs could not be had.
    #[error("cannot make the machine's {what}")]
    Host {
        /// Memory, sockets, tasks.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The jail could not be made, or the monitor could not be executed in it.
    #[error("cannot start {monitor}")]
    Spawn {
        /// The monitor.
        monitor: &'static str,
        /// Why.
        source: fcvm_sys::jail::Error,
    },
    /// The monitor ended before it answered.
    #[error("{monitor} ended at once ({ending}){}", said(stderr))]
    EndedEarly {
        /// The monitor.
        monitor: &'static str,
        /// How: an exit status or a signal.
        ending: String,
        /// The last lines of its standard error.
        stderr: String,
        /// The last of the guest's console.
        console: String,
    },
    /// The monitor lives but does not answer.
    #[error("{monitor} does not answer")]
    Silent {
        /// The monitor.
        monitor: &'static str,
    },
    /// The connection over which the monitor is steered failed.
    #[error("the monitor cannot be steered")]
    Control(#[from] crate::qemu::qmp::Error),
}

/// Renders what a monitor wrote before it ended.
fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
