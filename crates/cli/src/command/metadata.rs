//! `metadata`: what a VM may know of itself.

use super::block_on;
use crate::args::{MetadataVerb, metadata as parse};
use crate::error::Failure;
use crate::{settings, ui};
use std::path::Path;

pub(super) fn metadata(verb: MetadataVerb, data_dir: &Path) -> Result<(), Failure> {
    let engine = settings::engine(data_dir)?;
    match verb {
        MetadataVerb::Set { vm, values } => block_on(engine.set_metadata(&vm, parse(&values)?))??,
        MetadataVerb::Get { vm, key: None } => ui::say(&serde_json::to_string_pretty(&engine.metadata(&vm)?)?),
        MetadataVerb::Get { vm, key: Some(key) } => match engine.metadata(&vm)?.get(&key) {
            Some(value) => ui::say(value),
            None => return Err(Failure::new(format!("VM {vm} has no metadata {key:?}"))),
        },
    }
    Ok(())
}
