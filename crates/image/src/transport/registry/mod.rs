//! Registries over the OCI distribution API, and their mirrors.
//!
//! A small client of our own on `ureq` instead of the oci-client crate: that one can neither resume a blob nor try a mirror,
//! and brings an asynchronous HTTP stack of twice as many crates for what are three kinds of GET requests.

mod challenge;
mod client;
mod download;

use super::{Blob, Cancel, Resolved, Transport, Trust, read_checked, read_small};
use crate::manifest::{self, ACCEPT, CONFIG_MAX, Descriptor, Document, MANIFEST_MAX};
use crate::reference::{Name, Version};
use crate::registries::Registries;
use crate::{Digest, Error, Platform, Progress, PullOptions};
use client::{Client, Request};
use download::Download;
use std::fs;
use std::path::PathBuf;

/// A repository, wherever it may be found.
#[derive(Debug)]
pub(crate) struct Registry {
    name: Name,
    /// Mirrors first.
    sources: Vec<Client>,
    partial: PathBuf,
}

impl Registry {
    /// Prepares to ask for a name; `partial` is where blobs are kept while they are fetched.
    pub(crate) fn new(name: Name, options: &PullOptions, partial: PathBuf) -> Result<Self, Error> {
        let endpoints = Registries::read(&options.registries)?.endpoints(&name)?;
        let sources = endpoints.into_iter().map(|endpoint| Client::new(endpoint, options)).collect::<Result<_, _>>()?;
        Ok(Self { name, sources, partial })
    }

    /// Asks for the manifest and the configuration.
    pub(crate) fn resolve(&self, platform: &Platform) -> Result<Resolved, Error> {
        let mut failure = None;
        for source in &self.sources {
            match self.resolve_at(source, platform) {
                Err(error @ (Error::NotFound { .. } | Error::Registry { .. } | Error::Unauthorized { .. })) => {
                    tracing::debug!(source = source.shown(), %error, "a source does not give the image");
                    failure = Some(error);
                }
                result => return result,
            }
        }
        Err(failure.expect("there is at least the registry itself"))
    }

    fn resolve_at(&self, source: &Client, platform: &Platform) -> Result<Resolved, Error> {
        let reference = self.name.to_string();
        let (bytes, digest) = match &self.name.version {
            Version::Tag(tag) => manifest(source, tag, None)?,
            Version::Digest(digest) => manifest(source, &digest.to_string(), Some(digest))?,
        };
        let what = format!("the manifest of {reference}");
        let image = match manifest::parse(&bytes, &what)? {
            Document::Image(image) => image,
            Document::Index(entries) => {
                let chosen = manifest::select(&entries, platform, &reference)?.descriptor.digest;
                let (bytes, _) = manifest(source, &chosen.to_string(), Some(&chosen))?;
                match manifest::parse(&bytes, &what)? {
                    Document::Image(image) => image,
                    Document::Index(_) => return Err(Error::malformed(what, "it is an index within an index")),
                }
            }
        };
        let path = format!("blobs/{}", image.config.digest);
        let request = Request { operation: "fetch the configuration", path: &path, accept: None, offset: 0 };
        let body = source.get(&request)?.into_body().into_reader();
        let config = read_checked(body, &image.config, CONFIG_MAX, &format!("the configuration of {reference}"))?;
        Ok(Resolved { names: vec![reference.clone()], reference, manifest: Some(digest), config, layers: image.layers })
    }
}

/// Fetches a manifest and returns its digest, which must be the expected one if there is one.
fn manifest(source: &Client, version: &str, expected: Option<&Digest>) -> Result<(Vec<u8>, Digest), Error> {
    let path = format!("manifests/{version}");
    let request = Request { operation: "fetch the manifest", path: &path, accept: Some(ACCEPT), offset: 0 };
    let response = source.get(&request)?;
    let promised = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok()?.parse().ok());
    let what = format!("the manifest {version} of {}", source.shown());
    let bytes = read_small(response.into_body().into_reader(), MANIFEST_MAX, &what)?;
    let digest = Digest::of(&bytes);
    for wanted in expected.copied().into_iter().chain(promised) {
        if digest != wanted {
            return Err(Error::mismatch(what, &wanted, &digest));
        }
    }
    Ok((bytes, digest))
}

impl Transport for Registry {
    fn open(&self, layer: &Descriptor, progress: &dyn Progress, cancel: &Cancel) -> Result<Blob, Error> {
        let file = Download::begin(layer, &self.partial, (progress, cancel))?.finish(&self.sources)?;
        Ok(Blob { reader: Box::new(file), trust: Trust::Checked })
    }

    fn forget(&self, layers: &[Descriptor]) {
        for layer in layers {
            // Another pull that has it open goes on reading it.
            let _ = fs::remove_file(self.partial.join(layer.digest.hex()));
        }
    }
}
