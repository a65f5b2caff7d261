//! What steers a machine: a connection of its monitor's own kind.

use crate::firecracker::{self, ApiError};
use crate::qemu::{self, QmpError};
use crate::{Error, Exit};
use std::fs::File;
use std::io;

/// The connection by which a monitor is steered.
#[derive(Debug)]
pub(crate) enum Control {
    Firecracker(firecracker::Control),
    Qemu(qemu::Control),
}

/// How steering a monitor fails.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Firecracker's API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// QEMU's connection.
    #[error(transparent)]
    Qmp(#[from] QmpError),
}

impl ControlError {
    /// Whether the connection ended, most likely with the monitor.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Api(error) => matches!(error, ApiError::Closed),
            Self::Qmp(error) => matches!(error, QmpError::Closed),
        }
    }
}

impl Control {
    /// Returns the monitor's version.
    pub(crate) fn version(&self) -> String {
        match self {
            Self::Firecracker(control) => control.version(),
            Self::Qemu(control) => control.version(),
        }
    }

    /// Stops the guest's processors.
    pub(crate) async fn pause(&self) -> Result<(), Error> {
        let paused = match self {
            Self::Firecracker(control) => control.pause().await,
            Self::Qemu(control) => control.pause().await,
        };
        paused.map_err(failed("pause"))
    }

    /// Lets them go on.
    pub(crate) async fn resume(&self) -> Result<(), Error> {
        let resumed = match self {
            Self::Firecracker(control) => control.resume().await,
            Self::Qemu(control) => control.resume().await,
        };
        resumed.map_err(failed("resume"))
    }

    /// Tells the guest of a disk's new size.
    pub(crate) async fn resize(&self, disk: usize, bytes: u64) -> Result<(), Error> {
        let resized = match self {
            Self::Firecracker(control) => control.resize(disk).await,
            Self::Qemu(control) => control.resize(disk, bytes).await,
        };
        resized.map_err(failed("resize a disk of"))
    }

    /// Saves the state of processors and devices of a machine that is paused.
    pub(crate) async fn save_devices(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Firecracker(control) => control.save_devices().await,
            Self::Qemu(control) => control.save_devices().await,
        }
    }

    /// Returns why the monitor said that the machine ends, if it did.
    pub(crate) fn shutdown(&self) -> Option<Exit> {
        match self {
            // It says nothing: a guest that powers off and one that resets itself look the same.
            Self::Firecracker(_) => None,
            Self::Qemu(control) => control.shutdown(),
        }
    }

    /// Takes the memory that was saved with the devices, where the monitor does that.
    pub(crate) fn saved_memory(&self) -> io::Result<File> {
        match self {
            Self::Firecracker(control) => control.saved_memory(),
            Self::Qemu(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Names what was to be done with the machine.
pub(crate) fn failed<E: Into<ControlError>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Steer { what, source: source.into() }
}
