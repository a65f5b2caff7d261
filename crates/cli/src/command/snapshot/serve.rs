//! `snapshot serve`.

use super::super::block_on;
use crate::args::AsJson;
use crate::error::Failure;
use crate::ui;
use fcvm_engine::Engine;
use fcvm_engine::snapshot::Serving;
use fcvm_store::snapshot::{Holds, name};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Prints the number by which `snapshot run --pid` finds the snapshot, and keeps it until a signal comes.
///
/// Where a backend maps memory files, clones share their pages already: what is left to do is to read them in. Elsewhere a
/// server brings the pages, and the clones end with it.
pub(super) fn serve(text: &str, form: AsJson, engine: &Engine) -> Result<(), Failure> {
    let snapshot = engine.store().find_snapshot(text)?;
    let manifest = snapshot.manifest()?;
    snapshot.check_files(&manifest)?;
    if manifest.holds == Holds::Disk {
        return Err(fcvm_engine::Error::OnlyADisk.into());
    }
    snapshot.read_ahead(name::MEMORY)?;
    let pid = std::process::id();
    block_on(async {
        // From before anybody can know the number.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let served = engine.store().serve_snapshot(snapshot.id(), pid)?;
        let mut serving = engine.serve(&snapshot, &served)?;
        if serving.is_none() {
            ui::complain(
                "On this backend clones share a snapshot's pages by mapping its file: they start from it directly.",
            );
        }
        ui::say(&if form.json { json!({ "id": snapshot.id(), "pid": pid }).to_string() } else { pid.to_string() });
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            ending = ended(serving.as_mut()) => Err(Failure::new(format!("the page server ended by itself ({ending})"))),
        }
    })?
}

async fn ended(serving: Option<&mut Serving>) -> String {
    match serving {
        Some(serving) => serving.ended().await,
        None => std::future::pending().await,
    }
}
