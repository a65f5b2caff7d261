//! What snapshots there are, and what came of which.

use crate::args::{AsJson, ListSnapshotsArgs};
use crate::error::Failure;
use crate::ui::{self, table, time};
use fcvm_engine::Engine;
use fcvm_spec::{SnapshotId, VmName};
use fcvm_store::snapshot::{Kind, Manifest, SnapshotDir};
use serde::Serialize;
use serde_json::{Value, json};

/// A snapshot that can be read.
struct Known {
    dir: SnapshotDir,
    manifest: Manifest,
}

/// All snapshots, newest first. One that cannot be read is named and left out.
fn known(engine: &Engine) -> Result<Vec<Known>, Failure> {
    let mut known = Vec::new();
    for dir in engine.store().snapshots()? {
        match dir.manifest() {
            Ok(manifest) => known.push(Known { dir, manifest }),
            // Removed in this moment.
            Err(fcvm_store::Error::NoSuchSnapshot(_)) => {}
            Err(error) => ui::complain(&format!("Warning: {error}")),
        }
    }
    known.sort_by_key(|known| std::cmp::Reverse(known.manifest.created_ns));
    Ok(known)
}

pub(super) fn list(args: &ListSnapshotsArgs, engine: &Engine) -> Result<(), Failure> {
    let rows = known(engine)?.iter().map(|known| row(known, engine)).collect::<Result<Vec<_>, _>>()?;
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let id = |row: &Value| {
        let id = text(row, "id");
        if args.no_trunc { id } else { id.chars().take(12).collect() }
    };
    let shown = if args.json {
        serde_json::to_string_pretty(&rows)?
    } else if args.quiet {
        rows.iter().map(id).collect::<Vec<_>>().join("\n")
    } else {
        let cells = |row: &Value| {
            let number = |name: &str| time::size(row["sizes"][name].as_u64().unwrap_or(0));
            let tags: Vec<&str> = row["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let (kind, source, image) = (text(row, "kind"), text(row, "source"), text(row, "image"));
            vec![tags.join(","), id(row), kind, source, image, text(row, "age"), number("real"), number("shared")]
        };
        let rows: Vec<_> = rows.iter().map(cells).collect();
        table::render(&["TAG", "ID", "KIND", "SOURCE", "IMAGE", "CREATED", "SIZE", "SHARED"], &rows)
    };
    if !shown.is_empty() {
        ui::say(&shown);
    }
    Ok(())
}

fn row(known: &Known, engine: &Engine) -> Result<Value, Failure> {
    let Manifest { id, created_ns, kind, labels, source, parent, spec, pause_us, holds, .. } = &known.manifest;
    let kind = match kind {
        Kind::User => "user",
        Kind::Cache { .. } => "cache",
        Kind::Fork => "fork",
    };
    Ok(json!({
        "id": id,
        "tags": engine.store().tags_of(id)?,
        "kind": kind,
        "holds": holds,
        "labels": labels,
        "source": source.name,
        "parent": parent,
        "image": spec.image,
        "created": time::rfc3339(*created_ns),
        "age": format!("{} ago", time::span((time::now_ns() - created_ns) / 1_000_000_000)),
        "pause_us": pause_us,
        "sizes": known.dir.sizes()?,
    }))
}

pub(super) fn inspect(snapshots: &[String], engine: &Engine) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for text in snapshots {
        let dir = engine.store().find_snapshot(text)?;
        let manifest = dir.manifest()?;
        let mut value = serde_json::to_value(&manifest)?;
        value["tags"] = serde_json::to_value(engine.store().tags_of(&manifest.id)?)?;
        value["sizes"] = serde_json::to_value(dir.sizes()?)?;
        shown.push(value);
    }
    ui::say(&serde_json::to_string_pretty(&shown)?);
    Ok(())
}

/// A snapshot, and what came of it.
#[derive(Serialize)]
struct Branch {
    id: SnapshotId,
    tags: Vec<VmName>,
    source: String,
    /// The VMs that run from it, by name.
    vms: Vec<String>,
    children: Vec<Branch>,
}

pub(super) fn tree(form: AsJson, engine: &Engine) -> Result<(), Failure> {
    let known = known(engine)?;
    let mut vms = Vec::new();
    for vm in engine.store().vms()? {
        let Ok(record) = vm.record() else { continue };
        if let (true, Some(restored)) = (record.phase.is_live(), &record.restored) {
            vms.push((restored.snapshot.clone(), record.spec.name.to_string()));
        }
    }
    let is_known = |id: &SnapshotId| known.iter().any(|known| known.manifest.id == *id);
    let roots = known.iter().filter(|known| known.manifest.parent.as_ref().is_none_or(|parent| !is_known(parent)));
    let forest = Forest { known: &known, vms: &vms, engine };
    let branches = roots.map(|root| forest.branch(root)).collect::<Result<Vec<_>, _>>()?;
    if form.json {
        ui::say(&serde_json::to_string_pretty(&branches)?);
        return Ok(());
    }
    let mut lines = Vec::new();
    for branch in &branches {
        branch.draw(0, &mut lines);
    }
    lines.iter().for_each(|line| ui::say(line));
    Ok(())
}

struct Forest<'a> {
    known: &'a [Known],
    vms: &'a [(SnapshotId, String)],
    engine: &'a Engine,
}

impl Forest<'_> {
    fn branch(&self, node: &Known) -> Result<Branch, Failure> {
        let Manifest { id, source, .. } = &node.manifest;
        let is_child = |known: &&Known| known.manifest.parent.as_ref() == Some(id);
        let vms = self.vms.iter().filter(|(snapshot, _)| snapshot == id).map(|(_, vm)| vm.clone()).collect();
        let children = self.known.iter().filter(is_child).map(|child| self.branch(child)).collect::<Result<_, _>>()?;
        let tags = self.engine.store().tags_of(id)?;
        Ok(Branch { id: id.clone(), tags, source: source.name.to_string(), vms, children })
    }
}

impl Branch {
    fn draw(&self, depth: usize, lines: &mut Vec<String>) {
        let tags: String = self.tags.iter().map(|tag| format!(" {tag}")).collect();
        let indent = "  ".repeat(depth);
        lines.push(format!("{indent}{}{tags} (of VM {})", self.id.short(), self.source));
        lines.extend(self.vms.iter().map(|vm| format!("{indent}  VM {vm}")));
        self.children.iter().for_each(|child| child.draw(depth + 1, lines));
    }
}
