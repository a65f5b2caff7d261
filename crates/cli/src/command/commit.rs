//! `commit`: an image of a container's files.

use super::block_on;
use crate::args::{CommitArgs, CommitFormat};
use crate::error::Failure;
use crate::settings;
use crate::ui::{self, time};
use fcvm_engine::commit::{CommitRequest, CommitTarget, Meanwhile, Volumes};
use std::path::Path;

const ARCHIVE: &str = "oci-archive:";

/// Makes an image, and prints its id.
pub(super) fn commit(args: CommitArgs, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    let target = match args.image.as_deref() {
        Some(text) if text.starts_with(ARCHIVE) && args.format != CommitFormat::Oci => {
            return Err(Failure::new("an oci-archive: has OCI's format; save writes Docker's"));
        }
        Some(text) if text.starts_with(ARCHIVE) => archive(&text[ARCHIVE.len()..]),
        name => CommitTarget::Store(name.map(str::to_owned)),
    };
    let request = CommitRequest {
        vm: args.name,
        author: args.author,
        message: args.message,
        changes: args.change,
        volumes: if args.include_volumes { Volumes::Included } else { Volumes::Images },
        meanwhile: if args.pause { Meanwhile::Stands } else { Meanwhile::Runs },
        created: time::rfc3339(time::now_ns()),
    };
    let image = block_on(engine.commit(&request, target))??;
    let id = image.map(|image| image.digest.trim_start_matches("sha256:").to_owned());
    if let Some(path) = &args.iidfile {
        let failed = |error| Failure::new(format!("write the id file {}: {error}", path.display()));
        std::fs::write(path, id.as_deref().unwrap_or_default()).map_err(failed)?;
    }
    id.iter().for_each(|id| ui::say(id));
    Ok(())
}

/// `FILE[:TAG]`.
fn archive(text: &str) -> CommitTarget {
    let (file, tag) = text.split_once(':').map_or((text, None), |(file, tag)| (file, Some(tag.to_owned())));
    CommitTarget::OciArchive { file: file.into(), tag }
}
