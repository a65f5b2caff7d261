//! A saved machine, loaded: its devices over its memory file, then the pages that take the place of some; or over pages
//! that a server brings.

use super::Control;
use super::api::ApiError;
use super::boot::MONITOR;
use super::command;
use super::pager::Handover;
use super::supervision::Supervised;
use crate::control::failed;
use crate::{Error, Memory, Saved};

/// Loads a saved machine into the monitor with this number; it runs from then on. With a handover its pages are a server's.
pub(super) async fn load(
    control: &Control,
    memory: &mut Memory,
    (monitor, handover): (u32, Option<Handover>),
    saved: &Saved,
) -> Result<Option<Supervised>, Error> {
    let version = &control.version;
    if *version != saved.version {
        let reason = format!("it is version {version}, the machine was saved by version {}", saved.version);
        return Err(Error::Unsupported { monitor: MONITOR, reason });
    }
    let call = command::load(saved);
    let loaded = async { control.api.call(&call).await.map_err(failed::<ApiError>("load")) };
    let mut supervised = None;
    match (handover, &mut *memory) {
        (Some(handover), Memory::Served(origin)) => {
            // The answer may wait for pages.
            let (_, (regions, supervision)) = tokio::try_join!(loaded, handover.pass_on())?;
            origin.regions = regions;
            supervised = Some(supervision);
        }
        _ => drop(loaded.await?),
    }
    if let (Some(pages), None) = (&saved.pages, &supervised) {
        let failed = |source| Error::File { role: "memory pages", path: pages.clone(), source };
        memory.overwrite(monitor, pages).map_err(failed)?;
    }
    control.api.call(&command::state("Resumed")).await.map_err(failed::<ApiError>("resume"))?;
    Ok(supervised)
}
