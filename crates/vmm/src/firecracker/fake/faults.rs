//! Order and faults: what becomes of a machine whose Firecracker refuses, dies or says nothing.

use super::Fake;
use super::model::Then;
use crate::firecracker::workspace::Workspace;
use crate::firecracker::{Control, Firecracker, api::Call, command, saved};
use crate::{Accelerator, Access, Backend, Choice, Disk, Error, MachineSpec, Memory, Origin, Saved};
use fcvm_spec::{DiskFormat, MiB};

const VERSION: &str = "1.17.0-dev";

fn control(fake: &Fake, memory: &Memory) -> Control {
    let mut control = Control::new(Workspace::at(fake.directory()), memory);
    control.version = VERSION.to_owned();
    control
}

fn spec() -> MachineSpec {
    let backend = Backend::Firecracker(Firecracker { program: "/x".into(), version: None });
    MachineSpec {
        choice: Choice { backend, accel: Accelerator::Kvm, reason: String::new() },
        cpus: 1,
        memory: MiB(128),
        pages: fcvm_spec::PageSize::Base,
        origin: Origin::Boot { kernel: "/x".into(), initramfs: "/x".into() },
        disks: vec![Disk { path: "/x".into(), format: DiskFormat::Raw, access: Access::ReadWrite }],
        cgroups: Vec::new(),
        run_dir: "/x".into(),
    }
}

async fn boot(fake: &Fake, control: &Control) {
    for file in ["kernel", "initramfs", "disk0"] {
        std::fs::write(fake.directory().join(file), "x").unwrap();
    }
    control.api.wait().await.unwrap();
    for call in command::boot(&spec()) {
        control.api.call(&call).await.unwrap();
    }
}

fn of_version(version: &str) -> Saved {
    Saved { memory: "/x".into(), pages: None, devices: "/x".into(), server: None, version: version.to_owned() }
}

#[tokio::test]
async fn every_call_of_a_boot_is_taken_in_its_order_and_the_machine_is_saved_and_goes_on() {
    let fake = Fake::start();
    let control = control(&fake, &Memory::Monitors);
    boot(&fake, &control).await;
    let running = control.save_devices().await.unwrap_err();
    assert!(matches!(running, Error::Steer { .. }), "a machine that runs is not saved");
    control.pause().await.unwrap();
    control.pause().await.unwrap();
    assert_eq!(control.save_devices().await.unwrap(), b"saved");
    control.saved_memory().unwrap();
    control.resume().await.unwrap();
    assert_eq!(control.api.call(&Call::get("/")).await.unwrap()["state"], "Running");
}

#[tokio::test]
async fn of_a_restored_machine_the_devices_are_saved_without_its_memory() {
    let fake = Fake::start();
    std::fs::write(fake.directory().join("devices"), "x").unwrap();
    let mut memory = Memory::Private(tempfile::tempfile().unwrap().into());
    let control = control(&fake, &memory);
    control.api.wait().await.unwrap();
    saved::load(&control, &mut memory, (0, None), &of_version(VERSION)).await.unwrap();
    control.pause().await.unwrap();
    assert_eq!(control.save_devices().await.unwrap(), b"saved");
    assert!(control.saved_memory().is_err());
    control.resume().await.unwrap();
}

#[tokio::test]
async fn a_load_that_fails_is_told_and_then_nobody_answers() {
    let mut fake = Fake::start();
    let control = control(&fake, &Memory::Monitors);
    control.api.wait().await.unwrap();
    let other = saved::load(&control, &mut Memory::Monitors, (0, None), &of_version("1.15.0")).await.unwrap_err();
    assert!(matches!(other, Error::Unsupported { .. }), "another version is not even tried: {other}");
    let failed = saved::load(&control, &mut Memory::Monitors, (0, None), &of_version(VERSION)).await.unwrap_err();
    let Error::Steer { what: "load", source } = failed else { panic!("{failed}") };
    assert!(source.to_string().contains("Failed to open snapshot file") && !source.is_closed(), "{source}");
    assert_eq!(fake.ended().await, 1);
    let Error::Steer { source, .. } = control.pause().await.map_err(crate::control::failed("pause")).unwrap_err()
    else {
        panic!("a steering error")
    };
    assert!(source.is_closed(), "its socket is still there, and stale: {source}");
}

#[tokio::test]
async fn one_that_dies_in_a_call_has_closed_its_connection() {
    let mut fake = Fake::fated(vec![("PATCH /vm", Then::Crash(148))]);
    let control = control(&fake, &Memory::Monitors);
    boot(&fake, &control).await;
    assert!(crate::control::ControlError::is_closed(&control.pause().await.unwrap_err()));
    assert_eq!(fake.ended().await, 148);
}

/// A processor that does not stop is waited for 30 s by Firecracker, and a little longer by us.
#[tokio::test]
async fn one_that_says_nothing_is_given_up() {
    let fake = Fake::fated(vec![("PATCH /vm", Then::Silence)]);
    let control = control(&fake, &Memory::Monitors);
    boot(&fake, &control).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let silent = control.pause().await.unwrap_err().to_string();
    assert!(silent.contains("did not answer PATCH /vm") && begun.elapsed().as_secs() > 30, "{silent}");
}
