//! Verbs on images: images, pull, load, rmi.

use crate::args::{ImagesArgs, LoadArgs, PullArgs, RmiArgs};
use crate::error::Failure;
use crate::settings;
use crate::ui::progress::{Display, Show};
use crate::ui::template::Template;
use crate::ui::{self, table, time};
use fcvm_image::{Archive, Credentials, Image, PullPolicy, Tls};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn images(args: &ImagesArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let images = engine.images().store().list()?;
    let rows: Vec<Value> = images.iter().flat_map(|image| rows(image, args.no_trunc)).collect();
    let cell = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let text = match args.format.as_deref() {
        _ if args.quiet => rows.iter().map(|row| cell(row, "ID")).collect::<Vec<_>>().join("\n"),
        Some("json") => serde_json::to_string_pretty(&rows)?,
        None | Some("table") => {
            let names = ["Repository", "Tag", "ID", "CreatedSince", "Size"];
            let cells: Vec<Vec<String>> = rows.iter().map(|row| names.map(|name| cell(row, name)).to_vec()).collect();
            let table = table::render(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &cells);
            if args.noheading {
                table.split_once('\n').map_or_else(String::new, |(_, rest)| rest.to_owned())
            } else {
                table
            }
        }
        Some(template) => Template::parse(template)?.render(&rows)?,
    };
    if !text.is_empty() {
        ui::say(&text);
    }
    Ok(())
}

fn rows(image: &Image, whole: bool) -> Vec<Value> {
    let names = if image.names.is_empty() { vec!["<none>:<none>".to_owned()] } else { image.names.clone() };
    let row = |name: String| {
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository.to_owned(), tag.to_owned()),
            _ => (name, "<none>".to_owned()),
        };
        let created = image.config.created().as_ref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let since = created.map(|time| time::span(jiff::Timestamp::now().as_second() - time.as_second()));
        json!({
            "Repository": repository,
            "Tag": tag,
            "ID": if whole { image.digest.clone() } else { short(&image.digest) },
            "Digest": image.digest,
            "CreatedAt": created.map(|time| time.to_string()),
            "CreatedSince": since.map_or_else(|| "N/A".to_owned(), |span| format!("{span} ago")),
            "Size": time::size(image.size),
        })
    };
    names.into_iter().map(row).collect()
}

fn short(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

pub(super) fn pull(args: &PullArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let display = Display::new(if args.quiet { Show::Nothing } else { Show::Progress });
    let mut options = engine.pull_options(PullPolicy::Always);
    options.tls = match args.tls_verify {
        None => Tls::Configured,
        Some(true) => Tls::Verify,
        Some(false) => Tls::Insecure,
    };
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
    let engine = settings::engine(data_dir)?;
    let display = Display::new(if args.quiet { Show::Nothing } else { Show::Progress });
    let options = engine.pull_options(PullPolicy::Never);
    let images = match &args.input {
        Some(path) => engine.images().load(Archive::File(path), &options, &display)?,
        None => engine.images().load(Archive::Stream(&mut std::io::stdin().lock()), &options, &display)?,
    };
    for image in images {
        let names = if image.names.is_empty() { vec![image.digest.clone()] } else { image.names };
        ui::say(&format!("Loaded image: {}", names.join(", ")));
    }
    Ok(())
}

pub(super) fn rmi(args: RmiArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let store = engine.images().store();
    let mut names = args.images;
    if args.all {
        names = store.list()?.into_iter().map(|image| image.digest).collect();
    } else if names.is_empty() {
        return Err(Failure::new("name an image, or give --all"));
    }
    for name in names {
        match store.remove(&name) {
            Ok(_) => ui::say(&name),
            Err(fcvm_image::Error::NotFound { .. }) if args.ignore => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
