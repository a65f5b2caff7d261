//! A saved machine, loaded: its pages over its memory file, its devices as the end of an incoming migration.

use super::{Control, QmpError, command};
use crate::control::failed;
use crate::{Error, MachineSpec, Memory, Saved};
use serde_json::json;

/// Loads a saved machine into the monitor with this number; it runs from then on.
pub(super) async fn load(
    control: &Control,
    memory: &Memory,
    monitor: u32,
    (saved, spec): (&Saved, &MachineSpec),
) -> Result<(), Error> {
    let version = control.version();
    if version != saved.version {
        let reason = format!("it is version {version}, the machine was saved by version {}", saved.version);
        return Err(Error::Unsupported { monitor: "QEMU", reason });
    }
    if let Some(pages) = &saved.pages {
        let failed = |source| Error::File { role: "memory pages", path: pages.clone(), source };
        memory.overwrite(monitor, pages).map_err(failed)?;
    }
    let arguments = json!({ "uri": command::incoming(spec) });
    let loaded = control.qmp.execute_with("migrate-incoming", &arguments).await;
    loaded.map(drop).map_err(failed::<QmpError>("load the devices of"))
}
