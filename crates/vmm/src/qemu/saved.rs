//! A machine's devices, saved and loaded.
//!
//! `xen-save-devices-state` writes the state of processors and devices without the memory, for guests of Xen only by its
//! name. The file that it writes is one that QEMU inherited; loading is the end of an incoming migration.

use super::command;
use crate::{Error, Machine, MachineSpec, Saved};
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The largest state that is taken from a monitor, in bytes. That of our machines has about 100 KB.
const LARGEST: u64 = 16 << 20;

/// Saves the devices of a machine that is paused.
pub(crate) async fn save_devices(machine: &Machine) -> Result<Vec<u8>, Error> {
    let arguments = json!({ "filename": command::state_path(), "live": false });
    let saved = machine.qmp.execute_with("xen-save-devices-state", &arguments).await;
    saved.map_err(|source| Error::Steer { what: "save the devices of", source })?;
    read(machine).map_err(|source| Error::Host { what: "device state", source })
}

fn read(machine: &Machine) -> io::Result<Vec<u8>> {
    let file = File::from(machine.state.try_clone()?);
    let length = file.metadata()?.len();
    if length == 0 || length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the monitor saved {length} bytes")));
    }
    let mut state = vec![0; usize::try_from(length).expect("a bounded length")];
    file.read_exact_at(&mut state, 0)?;
    Ok(state)
}

/// Loads a saved machine; it runs from then on.
pub(super) async fn load(machine: &Machine, saved: &Saved, spec: &MachineSpec) -> Result<(), Error> {
    let version = machine.version();
    if version != saved.version {
        let reason = format!("it is version {version}, the machine was saved by version {}", saved.version);
        return Err(Error::Unsupported { monitor: "QEMU", reason });
    }
    if let Some(pages) = &saved.pages {
        let failed = |source| Error::File { role: "memory pages", path: pages.clone(), source };
        machine.memory.overwrite(machine.pid(), pages).map_err(failed)?;
    }
    let arguments = json!({ "uri": command::incoming(spec) });
    let loaded = machine.qmp.execute_with("migrate-incoming", &arguments).await;
    loaded.map(drop).map_err(|source| Error::Steer { what: "load the devices of", source })
}
