//! `inspect`: all about VMs or images, in podman's shape. A VM is described in [`vm`].

mod host_config;
mod vm;

use super::image::by_digest;
use crate::args::{InspectArgs, InspectKind};
use crate::error::Failure;
use crate::settings;
use crate::ui;
use crate::ui::template::Template;
use fcvm_engine::Engine;
use serde_json::{Value, json};
use std::path::Path;

/// Shows VMs and images.
pub(super) fn inspect(args: &InspectArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    show(args.names.iter().map(|name| inspect_one(&engine, name, args.kind)), args.format.as_deref())
}

/// Shows what there is of what was named, and then complains about what there is not.
pub(super) fn show(found: impl Iterator<Item = Result<Value, Failure>>, format: Option<&str>) -> Result<(), Failure> {
    let (mut rows, mut failure) = (Vec::new(), None);
    for row in found {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => failure = Some(error),
        }
    }
    let text = match format {
        None | Some("json") => serde_json::to_string_pretty(&rows)?,
        Some(template) => Template::parse(template)?.render(&rows)?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    failure.map_or(Ok(()), Err)
}

fn inspect_one(engine: &Engine, name: &str, kind: InspectKind) -> Result<Value, Failure> {
    let what = match kind {
        InspectKind::All => "VM or image",
        InspectKind::Container => "VM",
        InspectKind::Image => "image",
    };
    if kind != InspectKind::Image {
        match engine.store().find_vm(name) {
            Ok(vm) => return Ok(vm::describe(&vm, &vm.record()?, engine)),
            Err(fcvm_store::Error::NoSuchVm(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if kind != InspectKind::Container {
        match engine.images().store().lookup(name) {
            Ok(image) => return describe_image(&image),
            Err(fcvm_image::Error::NotFound { .. }) => {}
            // A VM's name need not be one that an image could have.
            Err(error) if kind == InspectKind::Image => return Err(error.into()),
            Err(_) => {}
        }
    }
    Err(Failure::new(format!("no such object: no {what} has the name or id {name:?}")))
}

/// In podman's shape, with where its disk is.
fn describe_image(image: &fcvm_image::Image) -> Result<Value, Failure> {
    let config = serde_json::to_value(&image.config)?;
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default();
    Ok(json!({
        "Id": image.digest.trim_start_matches("sha256:"),
        "Digest": image.manifest.clone().unwrap_or_default(),
        "RepoTags": image.names,
        "RepoDigests": by_digest(image),
        "Parent": "",
        "Comment": "",
        "Created": config["created"],
        "Config": config["config"],
        "Version": "",
        "Author": config["author"].as_str().unwrap_or_default(),
        "Architecture": config["architecture"],
        "Os": config["os"],
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": { "Name": "erofs", "Data": { "Disk": image.disk.to_string_lossy() } },
        "RootFS": { "Type": config["rootfs"]["type"], "Layers": config["rootfs"]["diff_ids"] },
        "Labels": labels,
        "Annotations": {},
        "ManifestType": "application/vnd.oci.image.manifest.v1+json",
        "User": config["config"]["User"].as_str().unwrap_or_default(),
        "History": config["history"].as_array().cloned().unwrap_or_default(),
        "NamesHistory": image.names,
        "Disk": image.disk.to_string_lossy(),
    }))
}
