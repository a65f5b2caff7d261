//! Verbs on images: images, pull, load, rmi.

use super::{block_on, list};
use crate::args::{ImagesArgs, LoadArgs, PullArgs, RmiArgs};
use crate::error::Failure;
use crate::settings;
use crate::ui::progress::{Display, Show};
use crate::ui::template::Template;
use crate::ui::{self, table, time};
use fcvm_engine::{Engine, Remove};
use fcvm_image::{Archive, Credentials, Image, PullPolicy};
use fcvm_spec::VmId;
use fcvm_store::VmRecord;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn images(args: &ImagesArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let mut images = engine.images().store().list()?;
    images.retain(|image| args.image.as_ref().is_none_or(|wanted| is_meant(image, wanted)));
    images.sort_by_key(|image| std::cmp::Reverse(created(image)));
    let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, args.no_trunc)).collect();
    let text = match args.format.as_deref() {
        Some("json") => {
            let records = list::records(&engine)?;
            serde_json::to_string_pretty(&images.iter().map(|image| for_json(image, &records)).collect::<Vec<_>>())?
        }
        _ if args.quiet => ids(&rows),
        None | Some("table") => table(&rows, args),
        Some(template) if args.noheading => Template::parse(template)?.render_body(&rows)?,
        Some(template) => Template::parse(template)?.render(&rows)?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    Ok(())
}

/// Whether `images NAME` means this one: by repository, or by repository and tag, with or without the registry.
fn is_meant(image: &Image, wanted: &str) -> bool {
    let is = |name: &str| name == wanted || name.ends_with(&format!("/{wanted}"));
    image.names.iter().any(|name| is(name) || is(name.rsplit_once(':').map_or(name, |(repository, _)| repository)))
}

fn ids(rows: &[Value]) -> String {
    let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
    ids.dedup();
    ids.join("\n")
}

fn table(rows: &[Value], args: &ImagesArgs) -> String {
    let columns = [
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("DIGEST", "Digest"),
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ];
    let columns = columns.into_iter().filter(|(title, _)| args.digests || *title != "DIGEST");
    let (titles, fields): (Vec<&str>, Vec<&str>) = columns.unzip();
    let cell = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| fields.iter().map(|name| cell(row, name)).collect()).collect();
    if args.noheading { table::body(&cells) } else { table::render(&titles, &cells) }
}

/// When an image was made; where it does not say, when it came here.
fn created(image: &Image) -> jiff::Timestamp {
    let said = image.config.created().as_ref().and_then(|time| time.parse().ok());
    let came = || jiff::Timestamp::from_second(i64::try_from(image.made).unwrap_or(0)).unwrap_or_default();
    said.unwrap_or_else(came)
}

/// An image with each of its names, as podman's templates name the fields.
fn rows(image: &Image, whole: bool) -> Vec<Value> {
    let names = if image.names.is_empty() { vec!["<none>:<none>".to_owned()] } else { image.names.clone() };
    let created = created(image);
    let since = time::span(jiff::Timestamp::now().as_second() - created.as_second());
    let row = |name: String| {
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
            _ => (name, "<none>".to_owned()),
        };
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": if whole { image.digest.clone() } else { short(&image.digest) },
            "Id": image.digest.trim_start_matches("sha256:"),
            "Digest": image.manifest,
            "Names": image.names,
            "CreatedAt": time::go(created.as_nanosecond() as i64),
            "CreatedSince": format!("{since} ago"),
            "Size": time::size(image.size),
        })
    };
    names.into_iter().map(row).collect()
}

/// An object of `--format json`.
fn for_json(image: &Image, records: &[VmRecord]) -> Value {
    let created = created(image);
    let users = records.iter().filter(|record| record.image_digest.as_ref() == Some(&image.digest));
    json!({
        "Id": image.digest.trim_start_matches("sha256:"),
        "ParentId": "",
        "RepoTags": image.names,
        "RepoDigests": by_digest(image),
        "Containers": users.count(),
        "Size": image.size,
        "VirtualSize": image.size,
        "SharedSize": 0,
        "Labels": image.config.config().as_ref().and_then(|config| config.labels().clone()).unwrap_or_default(),
        "Names": image.names,
        "History": image.names,
        "Digest": image.manifest.as_deref().unwrap_or_default(),
        "Created": created.as_second(),
        "CreatedAt": created.to_string(),
    })
}

/// Its names with the digest of its manifest, where it came by one, in the place of a tag.
pub(super) fn by_digest(image: &Image) -> Vec<String> {
    let repository =
        |name: &String| name.rsplit_once(':').map_or(name.clone(), |(repository, _)| repository.to_owned());
    let digest = |digest: &String| image.names.iter().map(|name| format!("{}@{digest}", repository(name))).collect();
    image.manifest.as_ref().map(digest).unwrap_or_default()
}

fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

pub(super) fn pull(args: &PullArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let display = Display::new(if args.quiet { Show::Nothing } else { Show::Progress });
    let mut options = engine.pull_options(PullPolicy::Always);
    args.registry.apply(&mut options)?;
    options.credentials = args.creds.as_deref().map(credentials).transpose()?;
    if let Some(platform) = &args.platform {
        options.platform = platform.parse().map_err(Failure::new)?;
    }
    for reference in &args.images {
        let image = engine.images().ensure(reference, &options, &display)?;
        ui::say(image.digest.trim_start_matches("sha256:"));
    }
    Ok(())
}

fn credentials(text: &str) -> Result<Credentials, Failure> {
    let (user, password) = text.split_once(':').ok_or_else(|| Failure::new("--creds takes USER:PASSWORD"))?;
    Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
}

pub(super) fn load(args: &LoadArgs, data_dir: &Path) -> Result<(), Failure> {
    if args.input.is_none() && std::io::stdin().is_terminal() {
        return Err(Failure::new("standard input is a terminal; name the archive with --input, or redirect it"));
    }
    let engine = settings::engine(data_dir)?;
    let display = Display::new(if args.quiet { Show::Nothing } else { Show::Progress });
    let options = engine.pull_options(PullPolicy::Never);
    let images = match &args.input {
        Some(path) => engine.images().load(Archive::File(path), &options, &display)?,
        None => engine.images().load(Archive::Stream(&mut std::io::stdin().lock()), &options, &display)?,
    };
    for image in images {
        let names = if image.names.is_empty() { vec![image.digest.clone()] } else { image.names };
        names.iter().for_each(|name| ui::say(&format!("Loaded image: {name}")));
    }
    Ok(())
}

pub(super) fn rmi(args: RmiArgs, data_dir: &Path) -> Result<ExitCode, Failure> {
    /// Podman's default for `rm -f`.
    const TIMEOUT: Duration = Duration::from_secs(10);
    let engine = settings::engine(data_dir)?;
    let store = engine.images().store();
    let mut names = args.images;
    if args.all {
        names = store.list()?.into_iter().map(|image| image.digest).collect();
    } else if names.is_empty() {
        return Err(Failure::new("name an image, or give --all"));
    }
    let mut code = 0;
    for name in names {
        let users = users(&engine, &name)?;
        if args.force {
            for vm in &users {
                block_on(engine.remove(vm.as_str(), Remove::Force(TIMEOUT)))??;
            }
        }
        let removed = match users.is_empty() || args.force {
            true => store.remove(&name),
            // One that has ended needs it too, to be started again.
            false => Err(fcvm_image::Error::InUse { name: name.clone() }),
        };
        match removed {
            Ok(removed) => {
                removed.untagged.iter().for_each(|name| ui::say(&format!("Untagged: {name}")));
                removed
                    .deleted
                    .iter()
                    .for_each(|id| ui::say(&format!("Deleted: {}", id.trim_start_matches("sha256:"))));
            }
            Err(fcvm_image::Error::NotFound { .. }) if args.ignore => {}
            Err(error) => {
                code = code.max(failure_of_rmi(&error));
                Failure::from(error).report();
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// `rmi` has exit codes of its own in podman: 1 for an image that is not there, 2 for one that is in use.
fn failure_of_rmi(error: &fcvm_image::Error) -> u8 {
    match error {
        fcvm_image::Error::NotFound { .. } => 1,
        fcvm_image::Error::InUse { .. } => 2,
        _ => 125,
    }
}

/// The VMs that could not be started any more if an image lost this name.
fn users(engine: &Engine, name: &str) -> Result<Vec<VmId>, Failure> {
    let Ok(image) = engine.images().store().lookup(name) else { return Ok(Vec::new()) };
    let is_only_a_name = image.names.len() > 1 && !image.digest.trim_start_matches("sha256:").starts_with(name);
    if is_only_a_name {
        return Ok(Vec::new());
    }
    let records = list::records(engine)?.into_iter();
    let users = records.filter(|record| record.image_digest.as_ref() == Some(&image.digest));
    Ok(users.map(|record| record.spec.id).collect())
}
