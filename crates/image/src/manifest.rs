//! Manifests, indexes and configurations (OCI and docker schema 2, which differ in media types only).
//!
//! Read tolerantly: unknown fields are ignored, sizes are limited, and what decides is which fields are there.

use crate::{Digest, Error, Platform};
use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

/// Manifests and indexes are at most this long, in bytes, as in containers/image.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// Configurations are at most this long, in bytes.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;
/// No builder makes images with more layers.
const LAYERS_MAX: usize = 1000;

/// The media types to ask registries for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A blob that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) media_type: String,
}

/// One line of an index.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct IndexEntry {
    #[serde(flatten)]
    pub(crate) descriptor: Descriptor,
    #[serde(default)]
    platform: Option<IndexPlatform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct IndexPlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl IndexEntry {
    /// The reference that a layout gives the entry.
    pub(crate) fn ref_name(&self) -> Option<&str> {
        self.annotations.get("org.opencontainers.image.ref.name").map(String::as_str)
    }

    /// The whole name that containerd and docker give the entry.
    pub(crate) fn image_name(&self) -> Option<&str> {
        self.annotations.get("io.containerd.image.name").map(String::as_str)
    }
}

/// What a manifest turned out to be.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// One image.
    Image(Manifest),
    /// Several, by platform or by name.
    Index(Vec<IndexEntry>),
}

/// One image's parts.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    /// From the lowest.
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    schema_version: u32,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<IndexEntry>>,
}

/// Reads a manifest or an index; `what` names it in errors.
pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Document, Error> {
    let malformed = |reason: &str| Error::malformed(what, reason);
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| Error::malformed(what, error))?;
    match (raw.config, raw.layers, raw.manifests) {
        (None, None, Some(entries)) => Ok(Document::Index(entries)),
        (Some(config), Some(layers), None) if layers.len() <= LAYERS_MAX => {
            Ok(Document::Image(Manifest { config, layers }))
        }
        (Some(_), Some(_), None) => Err(malformed("it has more layers than any image")),
        _ if raw.schema_version == 1 => Err(malformed("its schema version 1 is obsolete")),
        _ => Err(malformed("it is neither an image's manifest nor an index")),
    }
}

/// Chooses the entry for a platform.
pub(crate) fn select<'a>(
    entries: &'a [IndexEntry],
    wanted: &Platform,
    reference: &str,
) -> Result<&'a IndexEntry, Error> {
    let rank = |entry: &&IndexEntry| {
        let platform = entry.platform.as_ref()?;
        wanted.rank(&platform.os, &platform.architecture, platform.variant.as_deref())
    };
    let fit = entries.iter().filter(|entry| rank(entry).is_some()).min_by_key(rank);
    // An index of one image need not say for which platform it is; its configuration will.
    let only = || entries.first().filter(|entry| entries.len() == 1 && entry.platform.is_none());
    fit.or_else(only).ok_or_else(|| Error::WrongPlatform {
        reference: reference.into(),
        wanted: wanted.to_string(),
        available: offered(entries),
    })
}

fn offered(entries: &[IndexEntry]) -> Vec<String> {
    let platforms = entries.iter().filter_map(|entry| entry.platform.clone());
    let known = platforms.filter(|platform| platform.os != "unknown");
    let mut names: Vec<String> = known
        .map(|IndexPlatform { os, architecture, variant }| Platform { os, architecture, variant }.to_string())
        .take(50)
        .collect();
    names.dedup();
    if names.is_empty() {
        names.push("no platform that it names".into());
    }
    names
}

/// Reads a configuration and checks that it belongs to this many layers and to the platform.
pub(crate) fn configuration(
    bytes: &[u8],
    layers: usize,
    wanted: &Platform,
    reference: &str,
) -> Result<ImageConfiguration, Error> {
    let what = format!("the configuration of {reference}");
    let config: ImageConfiguration = serde_json::from_slice(bytes).map_err(|error| Error::malformed(&what, error))?;
    let named = config.rootfs().diff_ids().len();
    if named != layers {
        return Err(Error::malformed(what, format!("it names {named} layers, the manifest {layers}")));
    }
    let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
    if wanted.rank(&os, &architecture, config.variant().as_deref()).is_none() {
        let has = Platform { os, architecture, variant: config.variant().clone() };
        let available = vec![has.to_string()];
        return Err(Error::WrongPlatform { reference: reference.into(), wanted: wanted.to_string(), available });
    }
    Ok(config)
}

/// Returns the digests of the layers' plain tar streams.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>, Error> {
    let ids = config.rootfs().diff_ids().iter();
    ids.map(|id| id.parse().map_err(|error| Error::malformed("an image's configuration", error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> Vec<IndexEntry> {
        let entries: Vec<serde_json::Value> = platforms
            .iter()
            .map(|(os, architecture, variant)| {
                let platform = serde_json::json!({ "os": os, "architecture": architecture, "variant": variant });
                serde_json::json!({ "digest": DIGEST, "size": 1, "platform": platform })
            })
            .collect();
        let text = serde_json::json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        match parse(text.as_bytes(), "it").unwrap() {
            Document::Index(entries) => entries,
            Document::Image(_) => panic!("an index was taken for an image"),
        }
    }

    #[test]
    fn the_best_platform_of_an_index_is_chosen() {
        let entries = index(&[("linux", "arm", Some("v6")), ("linux", "arm", None), ("linux", "arm", Some("v7"))]);
        let wanted: Platform = "linux/arm/v7".parse().unwrap();
        assert_eq!(select(&entries, &wanted, "x").unwrap().platform.as_ref().unwrap().variant.as_deref(), Some("v7"));
    }

    #[test]
    fn an_index_without_the_platform_names_what_it_has() {
        let entries = index(&[("linux", "s390x", None), ("unknown", "unknown", None), ("windows", "amd64", None)]);
        let Err(Error::WrongPlatform { available, .. }) = select(&entries, &"linux/amd64".parse().unwrap(), "x") else {
            panic!("a platform was found");
        };
        assert_eq!(available, ["linux/s390x", "windows/amd64"]);
    }

    #[test]
    fn documents_that_are_both_or_neither_are_refused() {
        let config = format!(r#"{{"digest":"{DIGEST}","size":2}}"#);
        for text in [
            "{}".to_owned(),
            "[]".to_owned(),
            format!(r#"{{"config":{config},"layers":[],"manifests":[]}}"#),
            format!(r#"{{"config":{config}}}"#),
            r#"{"config":{"digest":"sha256:../../x","size":2},"layers":[]}"#.to_owned(),
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
        ] {
            assert!(matches!(parse(text.as_bytes(), "it"), Err(Error::Malformed { .. })), "{text}");
        }
    }
}
