//! What a VM may know of itself, as it is typed.

use crate::error::Failure;
use clap::Subcommand;
use std::collections::BTreeMap;

/// `metadata`.
#[derive(Debug, Subcommand)]
pub(crate) enum MetadataVerb {
    /// Change values of a running VM
    Set {
        /// The VM
        vm: String,
        /// KEY=VALUE; a key may be a path
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Print what a VM may know of itself, as JSON, or one value
    Get {
        /// The VM
        vm: String,
        /// The key
        key: Option<String>,
    },
}

/// Parses `KEY=VALUE`s; of two with one key the last one counts.
pub(crate) fn metadata(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(Failure::new(format!("invalid metadata {text:?}: KEY=VALUE is expected"))),
    };
    texts.iter().map(pair).collect()
}
