//! `commit`: an image of what a container has made of its files. It has one layer, all of them.

use crate::{Engine, Error};
use fcvm_image::{ArchiveFormat, Image, PullPolicy};
use fcvm_store::VmRecord;
use serde_json::{Value, json};
use std::path::PathBuf;

const INSTRUCTIONS: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// What is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// The VM.
    pub vm: String,
    /// Who made it.
    pub author: Option<String>,
    /// What it is.
    pub message: Option<String>,
    /// Changes of what is said about the image, as lines of a Containerfile.
    pub changes: Vec<String>,
    /// Whether what is mounted in the container becomes a volume of the image.
    pub volumes: Volumes,
    /// What the container does meanwhile.
    pub meanwhile: Meanwhile,
    /// When, as RFC 3339.
    pub created: String,
}

/// Whether the container's volumes become the image's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// Only those that the image had already.
    #[default]
    Images,
    /// The container's as well.
    Included,
}

/// What the container does while its files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Meanwhile {
    /// It goes on.
    #[default]
    Runs,
    /// It stands still.
    Stands,
}

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitTarget {
    /// Among the images here, by this name or none.
    Store(Option<String>),
    /// Into an archive that podman, docker and skopeo load.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// The image's name in it.
        tag: Option<String>,
    },
}

impl Engine {
    /// Makes an image of a container's files. Returns the image if it went among those here.
    pub async fn commit(&self, request: &CommitRequest, target: CommitTarget) -> Result<Option<Image>, Error> {
        let record = self.store().find_vm(&request.vm)?.record()?;
        let images = self.images().store().list()?;
        let base = images.into_iter().find(|image| Some(&image.digest) == record.image_digest.as_ref());
        let base = base.ok_or_else(|| Error::ImageGone(record.spec.image.clone()))?;
        // As it came: a health check is no part of OCI's configuration, but of Docker's.
        let config = self.images().store().configuration(&base)?;
        let mut config = serde_json::from_str(&config).map_err(|error| Error::Refused(error.to_string()))?;
        describe(&mut config, &record, request);
        for change in &request.changes {
            apply(&mut config["config"], change).map_err(|reason| Error::Change { change: change.clone(), reason })?;
        }
        let mut bundle = self.images().bundle()?;
        let layer = bundle.add(self.pack_root(&request.vm, request.meanwhile, bundle.layer()?).await?)?;
        match target {
            CommitTarget::Store(name) => {
                bundle.describe(config, layer, &[])?;
                Ok(Some(self.images().adopt(&bundle, name.as_deref(), &self.pull_options(PullPolicy::Never))?))
            }
            CommitTarget::OciArchive { file, tag } => {
                bundle.describe(config, layer, tag.as_slice())?;
                bundle.write_file(ArchiveFormat::Oci, &file)?;
                Ok(None)
            }
        }
    }
}

/// Says of the image what was said of the container, as podman does.
fn describe(config: &mut Value, record: &VmRecord, request: &CommitRequest) {
    let container = &record.spec.container;
    let created = &request.created;
    config["created"] = json!(created);
    if let Some(author) = &request.author {
        config["author"] = json!(author);
    }
    let history = json!({ "created": created, "created_by": record.command.join(" "), "comment": request.message });
    // One layer, and so one line that has any.
    let mut lines = config["history"].as_array().cloned().unwrap_or_default();
    lines.iter_mut().for_each(|line| line["empty_layer"] = json!(true));
    lines.push(history);
    config["history"] = json!(lines);
    let said = object(config, "config");
    for variable in &container.env {
        set_variable(said, variable);
    }
    for (name, value) in &container.labels {
        object(said, "Labels")[name] = json!(value);
    }
    if request.volumes == Volumes::Included {
        let targets = container.volumes.iter().map(|volume| &volume.target);
        targets.for_each(|target| object(said, "Volumes")[target] = json!({}));
    }
    if let Some(entrypoint) = &container.entrypoint {
        said["Entrypoint"] = json!(entrypoint);
    }
    if !container.command.is_empty() {
        said["Cmd"] = json!(container.command);
    }
    for (key, value) in [("User", &container.user), ("WorkingDir", &container.workdir)] {
        if let Some(value) = value {
            said[key] = json!(value);
        }
    }
}

/// A field that is an object, or becomes one.
fn object<'v>(of: &'v mut Value, name: &str) -> &'v mut Value {
    let field = &mut of[name];
    if !field.is_object() {
        *field = json!({});
    }
    field
}

fn set_variable(said: &mut Value, variable: &str) {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut env = said["Env"].as_array().cloned().unwrap_or_default();
    env.retain(|known| known.as_str().is_none_or(|known| name(known) != name(variable)));
    env.push(json!(variable));
    said["Env"] = json!(env);
}

/// Applies one `INSTRUCTION VALUE`, or says what is wrong with it.
fn apply(said: &mut Value, change: &str) -> Result<(), String> {
    // Podman takes `CMD=x` for `CMD x`.
    let end = change.find([' ', '=']).ok_or("it has no value")?;
    let (instruction, value) = (change[..end].to_ascii_uppercase(), change[end + 1..].trim());
    match instruction.as_str() {
        "CMD" => said["Cmd"] = command(value),
        "ENTRYPOINT" => said["Entrypoint"] = command(value),
        "ENV" => set_variable(said, &pair(value).join("=")),
        "LABEL" => {
            let [name, value] = pair(value);
            object(said, "Labels")[name] = json!(value);
        }
        "EXPOSE" => {
            let port = if value.contains('/') { value.to_owned() } else { format!("{value}/tcp") };
            object(said, "ExposedPorts")[port] = json!({});
        }
        "ONBUILD" => {
            let mut lines = said["OnBuild"].as_array().cloned().unwrap_or_default();
            lines.push(json!(value));
            said["OnBuild"] = json!(lines);
        }
        "VOLUME" => {
            let several = serde_json::from_str::<Vec<String>>(value).unwrap_or_else(|_| vec![value.to_owned()]);
            several.into_iter().for_each(|volume| object(said, "Volumes")[volume] = json!({}));
        }
        "USER" => said["User"] = json!(value),
        "WORKDIR" => said["WorkingDir"] = json!(value),
        "STOPSIGNAL" => said["StopSignal"] = json!(value),
        _ => return Err(format!("there are {INSTRUCTIONS}")),
    }
    Ok(())
}

/// A list of words as JSON, or a line for the shell.
fn command(value: &str) -> Value {
    let words = serde_json::from_str::<Vec<String>>(value);
    words.map_or_else(|_| json!(["/bin/sh", "-c", value]), |words| json!(words))
}

/// `NAME=VALUE` or `NAME VALUE`, perhaps with quotes around the value.
fn pair(text: &str) -> [String; 2] {
    let (name, value) = text.split_once(['=', ' ']).unwrap_or((text, ""));
    [name.to_owned(), value.trim().trim_matches('"').to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_those_of_a_containerfile() {
        // An image may say anything, also what is no object where one belongs.
        let mut said = json!({ "Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "Labels": null, "Volumes": ["/old"] });
        for change in [
            "CMD=[\"a\", \"b c\"]",
            "ENTRYPOINT run me",
            "ENV A=2",
            "env B 3",
            "LABEL x=\"y z\"",
            "EXPOSE 80",
            "VOLUME /data",
            "VOLUME [\"/a\", \"/b c\"]",
            "ONBUILD RUN x",
            "USER alice",
            "WORKDIR /srv",
            "STOPSIGNAL SIGINT",
        ] {
            apply(&mut said, change).unwrap();
        }
        let expected = json!({
            "Env": ["PATH=/bin", "A=2", "B=3"], "Cmd": ["a", "b c"], "Entrypoint": ["/bin/sh", "-c", "run me"],
            "Labels": { "x": "y z" }, "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/a": {}, "/b c": {}, "/data": {} }, "User": "alice", "OnBuild": ["RUN x"],
            "WorkingDir": "/srv", "StopSignal": "SIGINT",
        });
        assert_eq!(said, expected);
        assert!(apply(&mut said, "RUN x").is_err() && apply(&mut said, "CMD").is_err());
    }
}
