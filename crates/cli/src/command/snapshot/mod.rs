//! `snapshot` and `fork`.

mod children;
mod diff;
mod serve;
mod show;

use super::block_on;
use crate::args::{AsJson, CreateArgs, ForkArgs, RemoveSnapshotsArgs, SnapshotVerb};
use crate::error::Failure;
use crate::{settings, ui};
use fcvm_engine::Engine;
use fcvm_engine::snapshot::{CaptureRequest, Captured, Quiesce};
use fcvm_spec::{SnapshotId, VmName};
use fcvm_store::snapshot::{Holds, Kind};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// Does what was asked of snapshots.
pub(super) fn snapshot(verb: SnapshotVerb, data_dir: &Path) -> Result<ExitCode, Failure> {
    let engine = settings::engine(data_dir)?;
    let done = |result: Result<(), Failure>| result.map(|()| ExitCode::SUCCESS);
    match verb {
        SnapshotVerb::Create(args) => done(create(&args, &engine)),
        SnapshotVerb::Run(args) => children::run(args, &engine),
        SnapshotVerb::Ls(args) => done(show::list(&args, &engine)),
        SnapshotVerb::Inspect(args) => done(show::inspect(&args.snapshots, &engine)),
        SnapshotVerb::Rm(args) => each(&args.named.snapshots, |text| remove(text, &args, &engine)),
        SnapshotVerb::Prune(form) => done(prune(form, &engine)),
        SnapshotVerb::Tree(form) => done(show::tree(form, &engine)),
        SnapshotVerb::Diff(args) => done(diff::diff(&args, &engine)),
        SnapshotVerb::Flatten { snapshots } => each(&snapshots, |text| flatten(text, &engine)),
        SnapshotVerb::Tune { exec, snapshot } => children::tune(&snapshot, &exec, &engine),
        SnapshotVerb::Serve { form, snapshot } => done(serve::serve(&snapshot, form, &engine)),
        SnapshotVerb::Verify(args) => each(&args.snapshots, |text| verify(text, args.form, &engine)),
    }
}

/// Starts copies of a running VM: one pause for all of them.
pub(super) fn fork(args: ForkArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    args.children.check()?;
    let engine = settings::engine(data_dir)?;
    let request = request(Kind::Fork, BTreeMap::new(), (Quiesce::No, Holds::Machine))?;
    // Until the children have links of their own to what they use.
    let _hold = engine.store().hold_fork(&request.id)?;
    let captured = capture(&engine, &args.vm, request)?;
    let snapshot = engine.store().snapshot(&captured.id)?;
    children::start(&args.children, (&snapshot, None), &engine)
}

/// Lets a running VM go back.
pub(super) fn rewind(vm: &str, snapshot: &str, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    block_on(engine.rewind(vm, snapshot))??;
    ui::say(vm);
    Ok(())
}

fn create(args: &CreateArgs, engine: &Engine) -> Result<(), Failure> {
    let tag: Option<VmName> = args.tag.as_ref().map(|tag| tag.parse()).transpose()?;
    let captured = capture(engine, &args.vm, request(Kind::User, args.labels(), (args.quiesce(), args.holds()))?)?;
    if let Some(tag) = &tag {
        engine.store().tag_snapshot(tag, &captured.id)?;
    }
    if args.json {
        ui::say(&serde_json::to_string(&captured)?);
    } else {
        ui::say(captured.id.as_str());
    }
    Ok(())
}

fn request(
    kind: Kind,
    labels: BTreeMap<String, String>,
    (quiesce, holds): (Quiesce, Holds),
) -> Result<CaptureRequest, Failure> {
    let (id, _) = crate::args::fresh()?;
    Ok(CaptureRequest { id: id.as_str().parse::<SnapshotId>()?, kind, labels, quiesce, holds })
}

fn capture(engine: &Engine, vm: &str, request: CaptureRequest) -> Result<Captured, Failure> {
    Ok(block_on(engine.snapshot(vm, request))??)
}

fn remove(text: &str, args: &RemoveSnapshotsArgs, engine: &Engine) -> Result<(), Failure> {
    match engine.store().find_snapshot(text) {
        Ok(snapshot) => {
            let id = snapshot.id().clone();
            snapshot.remove()?;
            removed(&id, text, args.named.form);
        }
        Err(fcvm_store::Error::NoSuchSnapshot(_)) if args.force => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn prune(form: AsJson, engine: &Engine) -> Result<(), Failure> {
    for snapshot in engine.store().snapshots()? {
        let id = snapshot.id().clone();
        if engine.store().tags_of(&id)?.is_empty() {
            snapshot.remove()?;
            removed(&id, id.as_str(), form);
        }
    }
    Ok(())
}

fn removed(id: &SnapshotId, text: &str, form: AsJson) {
    ui::say(&if form.json { json!({ "id": id }).to_string() } else { text.to_owned() });
}

/// There is nothing to do: a snapshot has its own links to all that it needs.
fn flatten(text: &str, engine: &Engine) -> Result<(), Failure> {
    let snapshot = engine.store().find_snapshot(text)?;
    snapshot.check_files(&snapshot.manifest()?)?;
    ui::say(text);
    ui::complain(&format!("{text} stands by itself already: no snapshot of this backend needs another one"));
    Ok(())
}

fn verify(text: &str, form: AsJson, engine: &Engine) -> Result<(), Failure> {
    let snapshot = engine.store().find_snapshot(text)?;
    let changed = snapshot.verify()?;
    if form.json {
        ui::say(&json!({ "id": snapshot.id(), "changed": changed }).to_string());
    } else if changed.is_empty() {
        ui::say(&format!("{text}: whole"));
    }
    if changed.is_empty() {
        return Ok(());
    }
    let files = changed.join(", ");
    Err(Failure::new(format!("the snapshot {text} is damaged: {files} changed since it was made")))
}

/// Goes on after one that failed, and says all that did.
fn each(names: &[String], act: impl Fn(&str) -> Result<(), Failure>) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        if let Err(failure) = act(name) {
            code = failure.report();
        }
    }
    Ok(code)
}
