//! A saved machine, loaded: its devices over its memory file, then the pages that take the place of some.

use super::Control;
use super::api::ApiError;
use super::boot::MONITOR;
use super::command;
use crate::control::failed;
use crate::{Error, Memory, Saved};

/// Loads a saved machine into the monitor with this number; it runs from then on.
pub(super) async fn load(control: &Control, memory: &Memory, monitor: u32, saved: &Saved) -> Result<(), Error> {
    let version = &control.version;
    if *version != saved.version {
        let reason = format!("it is version {version}, the machine was saved by version {}", saved.version);
        return Err(Error::Unsupported { monitor: MONITOR, reason });
    }
    control.api.call(&command::load()).await.map_err(failed::<ApiError>("load"))?;
    if let Some(pages) = &saved.pages {
        let failed = |source| Error::File { role: "memory pages", path: pages.clone(), source };
        memory.overwrite(monitor, pages).map_err(failed)?;
    }
    control.api.call(&command::state("Resumed")).await.map(drop).map_err(failed::<ApiError>("resume"))
}
