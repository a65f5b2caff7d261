//! `setup`: kernel, guest system, scratch disk.

use super::doctor::HOW_TO_OBTAIN_FIRECRACKER;
use crate::args::{SetupArgs, With};
use crate::error::Failure;
use crate::ui::progress::{Display, Show};
use crate::{settings, ui};
use fcvm_artifacts::{Artifacts, SetupOptions, System};
use fcvm_store::Store;
use fcvm_sys::kvm::Acceleration;
use fcvm_vmm::Probe;
use std::path::Path;

pub(super) fn setup(args: &SetupArgs, data_dir: &Path) -> Result<(), Failure> {
    let settings = settings::settings(data_dir)?;
    settings::require_agent(&settings)?;
    let store = Store::open(&settings.data_dir)?;
    let artifacts = Artifacts::open(&store.artifacts_dir())?;
    let display = Display::new(if args.quiet { Show::Nothing } else { Show::Progress });
    let host = Probe::of_host(&settings.search_path, settings.firecracker.as_deref());
    let systems = args.with.iter().map(|With::Podman| System::Podman).collect();
    let options = SetupOptions { agent: settings.agent, search_path: settings.search_path, systems };
    artifacts.setup(&options, &display)?;
    if !args.quiet {
        ui::say(&format!("Ready: kernel {} in {}", artifacts.kernel_release()?, store.root().display()));
        advise(&host);
    }
    Ok(())
}

/// Says what would run VMs better here.
fn advise(host: &Probe) {
    let there = host.firecracker.as_ref().is_some_and(|firecracker| firecracker.supported().is_ok());
    if host.acceleration == Acceleration::Hardware && !there {
        ui::say(&format!("KVM works here, so Firecracker can run VMs: {HOW_TO_OBTAIN_FIRECRACKER}"));
    }
}
