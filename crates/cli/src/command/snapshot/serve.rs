//! `snapshot serve`.

use super::super::block_on;
use crate::error::Failure;
use crate::ui;
use fcvm_engine::Engine;
use fcvm_store::snapshot::{Holds, name};
use tokio::signal::unix::{SignalKind, signal};

/// Prints the number by which `snapshot run --pid` finds the snapshot, and keeps it until a signal comes.
///
/// Where a backend maps memory files, clones share their pages already: what is left to do is to read them in.
pub(super) fn serve(text: &str, engine: &Engine) -> Result<(), Failure> {
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
        let _served = engine.store().serve_snapshot(snapshot.id(), pid)?;
        ui::complain(
            "On this backend clones share a snapshot's pages by mapping its file: they start from it directly.",
        );
        ui::say(&pid.to_string());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })?
}
