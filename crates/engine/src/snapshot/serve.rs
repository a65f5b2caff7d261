//! A snapshot whose pages a server brings to the machines that start from it, where their monitor can be served.

use crate::{Engine, Error};
use fcvm_pager::{Files, Order, Overlay};
use fcvm_store::snapshot::{SavedMachine, Served, SnapshotDir, SnapshotHold, name};
use fcvm_sys::process::Watched;
use fcvm_sys::socket::Address;
use fcvm_vmm::firecracker;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;

/// A server that runs. Dropped it ends, and its machines with it.
#[derive(Debug)]
pub struct Serving {
    server: Watched,
    _hold: SnapshotHold,
}

impl Serving {
    /// Waits for its end, which nobody asked for; says how it was.
    pub async fn ended(&mut self) -> String {
        match self.server.ended().await {
            Ok(ending) => ending.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Engine {
    /// Starts a server of a snapshot's pages. None: its machines map the memory, and share the pages without one.
    ///
    /// Called on a thread that lives as long as the server may.
    pub fn serve(&self, snapshot: &SnapshotDir, served: &Served) -> Result<Option<Serving>, Error> {
        let hold = snapshot.hold()?;
        let manifest = snapshot.manifest()?;
        if !is_served(&manifest.machine) {
            return Ok(None);
        }
        let failed = |source| Error::Memory { what: "serve", source };
        let pages = manifest.files.contains_key(name::PAGES).then(|| File::open(snapshot.path(name::PAGES)));
        let pages = pages.transpose().map_err(failed)?;
        let overlays = pages.as_ref().map(overlays).transpose().map_err(failed)?.unwrap_or_default();
        let files = Files {
            memory: File::open(snapshot.path(name::MEMORY)).map_err(failed)?,
            pages,
            listener: Address::of(&served.pager()).and_then(|at| UnixListener::bind(at.path())).map_err(failed)?,
        };
        let order = Order { overlays, working_set: snapshot.working_set() };
        let settings = self.settings();
        let spawned =
            fcvm_pager::start(&settings.pager(), &order, files, &settings.entrance()).map_err(Error::Pager)?;
        Ok(Some(Serving { server: Watched::new(spawned.child).map_err(failed)?, _hold: hold }))
    }
}

/// Whether a server brings the pages of a machine's memory to its clones, who map them otherwise.
pub(crate) fn is_served(machine: &SavedMachine) -> bool {
    machine.backend == firecracker::PROGRAM
}

fn overlays(pages: &File) -> io::Result<Vec<Overlay>> {
    let parts = fcvm_vmm::memory::parts(pages)?;
    Ok(parts.into_iter().map(|(start, length, place)| Overlay { start, length, place }).collect())
}
