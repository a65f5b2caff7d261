//! How starting or steering a monitor fails.

use fcvm_sys::process::Ending;
use std::io;
use std::path::PathBuf;

/// A failure around a monitor. Its name is that of the backend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification asks for what the monitor cannot do.
    #[error("{monitor} cannot run this machine: {reason}")]
    Unsupported {
        /// The monitor.
        monitor: &'static str,
        /// One clause.
        reason: String,
    },
    /// A file of the machine cannot be used.
    #[error("cannot use {} as the machine's {role}", path.display())]
    File {
        /// Kernel, initramfs, disk or console log.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something of the host that the machine needs could not be had.
    #[error("cannot make the machine's {what}")]
    Host {
        /// Memory, sockets.
        what: &'static str,
        /// Why.
        source: io::Error,
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
    #[error("{monitor} ended before it answered ({ending}): {stderr}")]
    EndedEarly {
        /// The monitor.
        monitor: &'static str,
        /// How.
        ending: Ending,
        /// The last lines of its standard error, or a clause that says that there were none.
        stderr: String,
    },
    /// The monitor lives but does not answer.
    #[error("{monitor} did not answer within {seconds} s")]
    Silent {
        /// The monitor.
        monitor: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The machine's pages cannot be had of a server.
    #[error("cannot have the machine's memory served")]
    Pager {
        /// Why.
        source: fcvm_pager::LinkError,
    },
    /// The monitor refused a command, or the connection to it broke.
    #[error("cannot {what} the machine")]
    Steer {
        /// The verb.
        what: &'static str,
        /// Why.
        source: crate::ControlError,
    },
}
