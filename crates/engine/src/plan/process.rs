//! The container's process: the image's configuration with what was asked laid over it, as podman does.

use fcvm_spec::VmSpec;
use oci_spec::image::ImageConfiguration;

/// Neither the image nor the caller says what to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no command was given and the image names none")]
pub struct NoCommand;

/// What is executed, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) workdir: String,
    pub(super) user: String,
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn merge(spec: &VmSpec, image: &ImageConfiguration) -> Result<Process, NoCommand> {
    let config = image.config().as_ref();
    let asked = &spec.container;
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let image_command = || list(config.and_then(|config| config.cmd().as_ref()));
    // An entrypoint of the caller's own makes the image's command meaningless.
    let (mut args, default) = match &asked.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (list(config.and_then(|config| config.entrypoint().as_ref())), image_command()),
    };
    args.extend(if asked.command.is_empty() { default } else { asked.command.clone() });
    if args.is_empty() {
        return Err(NoCommand);
    }
    let text = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let workdir =
        text(asked.workdir.as_ref()).or_else(|| text(config.and_then(|config| config.working_dir().as_ref())));
    let user = text(asked.user.as_ref()).or_else(|| text(config.and_then(|config| config.user().as_ref())));
    Ok(Process {
        args,
        env: environment(spec, &list(config.and_then(|config| config.env().as_ref()))),
        workdir: workdir.unwrap_or_else(|| "/".to_owned()),
        user: user.unwrap_or_default(),
    })
}

/// Lays the caller's variables over the image's over the defaults; the first place of a name is kept, its last value wins.
fn environment(spec: &VmSpec, image: &[String]) -> Vec<String> {
    let hostname = format!("HOSTNAME={}", spec.container.hostname.as_deref().unwrap_or(spec.id.short()));
    let defaults = [DEFAULT_PATH.to_owned(), "TERM=xterm".to_owned(), "container=fcvm".to_owned(), hostname];
    let mut env: Vec<String> = Vec::new();
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    for variable in defaults.iter().chain(image).chain(&spec.container.env) {
        match env.iter_mut().find(|known| name(known) == name(variable)) {
            Some(known) => known.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    env
}
