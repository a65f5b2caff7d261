//! Use cases: run, exec, stop, kill, wait, remove. Owns every running VM.
//!
//! This room reads no environment and prints nothing: settings are arguments, results are values. The way of a VM
//! through it is in [`run`], what other processes ask of its owner in `control`.

mod attach;
pub mod attachment;
mod cache;
mod changes;
mod clock;
pub mod commit;
mod console;
mod control;
pub mod copy;
mod disks;
mod error;
mod health;
mod keeper;
mod link;
mod metadata;
mod ops;
pub mod plan;
pub mod run;
mod settings;
pub mod snapshot;
mod usage;
pub mod volumes;

pub use attach::Attached;
pub use attachment::{Attachment, CHANNEL_DEPTH, Input, Output};
pub use console::Streams;
pub use disks::Unfit;
pub use error::Error;
pub use ops::{ExecOutcome, Remove, WaitFor};
pub use run::{Attendance, Goal, Publish, RunObserver, RunOutcome, RunRequest};
pub use settings::Settings;
pub use usage::{HostUsage, VmUsage};

use fcvm_artifacts::Artifacts;
use fcvm_image::Images;
use fcvm_store::{FailPoint, Store};

/// One data directory with all that is done in it.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    store: Store,
    images: Images,
    artifacts: Artifacts,
}

impl Engine {
    /// Opens the data directory, makes it if it is not there, and ends what killed owners left.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        let store = Store::open(&settings.data_dir)?.with_faults(settings.faults);
        match store.sweep() {
            Ok(all) => all.iter().for_each(|swept| tracing::info!(?swept, "ended what a killed owner left")),
            // What cannot be removed now (the disk may be read-only) keeps nobody from anything else.
            Err(error) => tracing::warn!(%error, "left-overs of a killed owner stay"),
        }
        let images = Images::open(&store.images_dir())?;
        let artifacts = Artifacts::open(&store.artifacts_dir())?;
        Ok(Self { settings, store, images, artifacts })
    }

    /// The VMs' records.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// What VMs boot from.
    pub fn artifacts(&self) -> &Artifacts {
        &self.artifacts
    }

    /// Passes a point of a run, or fails there if the settings say so.
    pub fn reach(&self, point: FailPoint) -> Result<(), Error> {
        Ok(self.settings.faults.at(point)?)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}
