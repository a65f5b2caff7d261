//! Images of the host's own podman, exported by the host's tools into a directory that goes away afterwards.

use super::{Blob, BlobDir, Cancel, Resolved, Transport};
use crate::manifest::Descriptor;
use crate::store::Scratch;
use crate::{Digest, Error, Progress};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The host's podman or skopeo.
#[derive(Clone, Debug)]
pub(crate) struct HostStorage {
    podman: Option<PathBuf>,
    skopeo: Option<PathBuf>,
}

/// An exported image.
#[derive(Debug)]
pub(crate) struct Exported {
    blobs: BlobDir,
    _dir: Scratch,
}

impl HostStorage {
    /// Looks for the programs.
    pub(crate) fn new(search_path: &[PathBuf]) -> Self {
        let find = |name: &str| search_path.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
        Self { podman: find("podman"), skopeo: find("skopeo") }
    }

    /// Returns the id of the image that has a name there; nothing if there is no podman or no such image.
    pub(crate) fn id(&self, name: &str) -> Option<Digest> {
        let mut command = Command::new(self.podman.as_ref()?);
        command.args(["image", "inspect", "--format", "{{.Id}}", "--", name]);
        let output = command.stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| Digest::from_hex(String::from_utf8_lossy(&output.stdout).trim()).ok())?
    }

    /// Exports an image into a directory, which goes away with it.
    pub(crate) fn export(&self, name: &str, dir: Scratch) -> Result<(Exported, Resolved), Error> {
        match (&self.podman, &self.skopeo) {
            (Some(podman), _) => {
                let mut command = Command::new(podman);
                command.args(["image", "save", "--quiet", "--format", "docker-dir", "--output"]).arg(dir.path());
                run(command.arg("--").arg(name), "podman", name)?;
            }
            (None, Some(skopeo)) => {
                let mut command = Command::new(skopeo);
                command.args(["copy", "--quiet", "--", &format!("containers-storage:{name}")]);
                run(command.arg(format!("dir:{}", dir.path().display())), "skopeo", name)?;
            }
            (None, None) => {
                return Err(Error::Program {
                    program: "podman".into(),
                    operation: format!("export {name}"),
                    reason: "neither podman nor skopeo is installed".into(),
                });
            }
        }
        let blobs = BlobDir::new(dir.path());
        let mut resolved = blobs.resolve()?;
        resolved.reference = format!("containers-storage:{name}");
        resolved.names.extend(super::layout::archive_name(name));
        Ok((Exported { blobs, _dir: dir }, resolved))
    }
}

impl Transport for Exported {
    fn open(&self, layer: &Descriptor, progress: &dyn Progress, cancel: &Cancel) -> Result<Blob, Error> {
        self.blobs.open(layer, progress, cancel)
    }
}

fn run(command: &mut Command, program: &str, name: &str) -> Result<(), Error> {
    let failed =
        |reason: String| Error::Program { program: program.into(), operation: format!("export {name}"), reason };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed").trim();
    if last.contains("not known") || last.contains("does not resolve to an image ID") {
        return Err(Error::NotFound {
            reference: name.into(),
            reason: format!("the host's {program} does not have it"),
        });
    }
    Err(failed(last.chars().take(500).collect()))
}
