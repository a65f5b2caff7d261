//! Steering a QEMU that runs, and saving its devices.
//!
//! `xen-save-devices-state` writes the state of processors and devices without the memory, for guests of Xen only by its
//! name. The file that it writes is one that QEMU inherited.

use super::{Qmp, QmpError, command};
use crate::control::{ControlError, failed};
use crate::{Error, Exit};
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// The largest state that is taken from a monitor, in bytes. That of our machines has about 100 KB.
const LARGEST: u64 = 16 << 20;

/// What steers a QEMU.
#[derive(Debug)]
pub(crate) struct Control {
    pub(super) qmp: Qmp,
    /// The file into which it saves its devices.
    pub(super) state: OwnedFd,
}

impl Control {
    pub(crate) fn version(&self) -> String {
        self.qmp.version().unwrap_or_default()
    }

    pub(crate) async fn pause(&self) -> Result<(), ControlError> {
        Ok(self.qmp.execute("stop").await.map(drop)?)
    }

    pub(crate) async fn resume(&self) -> Result<(), ControlError> {
        Ok(self.qmp.execute("cont").await.map(drop)?)
    }

    pub(crate) async fn resize(&self, disk: usize, bytes: u64) -> Result<(), ControlError> {
        let arguments = json!({ "node-name": command::node(disk), "size": bytes });
        Ok(self.qmp.execute_with("block_resize", &arguments).await.map(drop)?)
    }

    pub(crate) fn shutdown(&self) -> Option<Exit> {
        self.qmp.shutdown()
    }

    pub(crate) async fn save_devices(&self) -> Result<Vec<u8>, Error> {
        let arguments = json!({ "filename": command::state_path(), "live": false });
        let saved = self.qmp.execute_with("xen-save-devices-state", &arguments).await;
        saved.map_err(failed::<QmpError>("save the devices of"))?;
        self.state().map_err(|source| Error::Host { what: "device state", source })
    }

    fn state(&self) -> io::Result<Vec<u8>> {
        let file = File::from(self.state.try_clone()?);
        let length = file.metadata()?.len();
        if length == 0 || length > LARGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the monitor saved {length} bytes")));
        }
        let mut state = vec![0; usize::try_from(length).expect("a bounded length")];
        file.read_exact_at(&mut state, 0)?;
        Ok(state)
    }
}
