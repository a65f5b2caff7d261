//! Steering a Firecracker that runs, and saving its devices.
//!
//! It saves devices first and the memory after that. Of a machine that was restored only the devices are wanted, since its
//! memory is read from outside ([`crate::memory`]): the memory's file is one that cannot be, and the refusal of that is
//! what is expected. The machine stays paused and as good as before then.

use super::api::{Api, ApiError};
use super::command;
use super::workspace::{API, Workspace};
use crate::control::{ControlError, failed};
use crate::{Error, Memory};
use std::io::{self, Read};

/// The largest state that is taken from a monitor, in bytes. That of our machines has about 20 KB.
const LARGEST: u64 = 16 << 20;

/// The files of a save.
const DEVICES: &str = "saved-devices";
const MEMORY: &str = "saved-memory";
const NOWHERE: &str = "nowhere/memory";

/// What steers a Firecracker.
#[derive(Debug)]
pub(crate) struct Control {
    pub(super) api: Api,
    pub(super) workspace: Workspace,
    pub(super) version: String,
    /// Whose the copy of the memory is.
    copies: Copies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    /// Firecracker's: nobody else knows where its memory is.
    Monitor,
    /// The owner's.
    Owner,
}

impl Control {
    pub(super) fn new(workspace: Workspace, memory: &Memory) -> Self {
        let api = Api::new(&workspace.path(API));
        let copies = if matches!(memory, Memory::Monitors) { Copies::Monitor } else { Copies::Owner };
        Self { api, workspace, version: String::new(), copies }
    }

    pub(crate) fn version(&self) -> String {
        self.version.clone()
    }

    pub(crate) async fn pause(&self) -> Result<(), ControlError> {
        Ok(self.api.call(&command::state("Paused")).await.map(drop)?)
    }

    pub(crate) async fn resume(&self) -> Result<(), ControlError> {
        Ok(self.api.call(&command::state("Resumed")).await.map(drop)?)
    }

    pub(crate) async fn resize(&self, disk: usize) -> Result<(), ControlError> {
        Ok(self.api.call(&command::resized(disk)).await.map(drop)?)
    }

    pub(crate) async fn save_devices(&self) -> Result<Vec<u8>, Error> {
        let memory = if self.copies == Copies::Monitor { MEMORY } else { NOWHERE };
        match (self.api.call(&command::save(DEVICES, memory)).await, self.copies) {
            (Ok(_), _) => {}
            (Err(ApiError::Refused { reason, .. }), Copies::Owner) if reason.contains("memory") => {}
            (Err(error), _) => return Err(failed("save the devices of")(error)),
        }
        self.state().map_err(|source| Error::Host { what: "device state", source })
    }

    fn state(&self) -> io::Result<Vec<u8>> {
        let mut state = Vec::new();
        self.workspace.take(DEVICES)?.take(LARGEST + 1).read_to_end(&mut state)?;
        if state.is_empty() || state.len() as u64 > LARGEST {
            let reason = format!("the monitor saved {} bytes", state.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(state)
    }

    /// Takes the memory that was saved with the devices.
    pub(crate) fn saved_memory(&self) -> io::Result<std::fs::File> {
        self.workspace.take(MEMORY)
    }
}
