//! The index of names: which image a name means. One JSON file, changed under a lock, replaced whole.

use super::lock;
use crate::reference::{Name, Reference, Version};
use crate::{Digest, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Whence a name came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// A registry.
    Registry,
    /// An archive, a layout or a directory.
    Local,
    /// The host's podman, which may have another image by that name now.
    Host,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meaning {
    pub(crate) image: Digest,
    /// The manifest or index that the name led to, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifest: Option<Digest>,
    pub(crate) origin: Origin,
}

/// All names, by their whole text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Names(BTreeMap<String, Meaning>);

impl Names {
    pub(crate) fn get(&self, name: &str) -> Option<&Meaning> {
        self.0.get(name)
    }

    pub(crate) fn insert(&mut self, name: String, meaning: Meaning) {
        self.0.insert(name, meaning);
    }

    pub(crate) fn remove_all(&mut self, names: &[String]) {
        self.0.retain(|name, _| !names.contains(name));
    }

    /// Returns the names of an image.
    pub(crate) fn of(&self, image: &Digest) -> Vec<String> {
        self.0.iter().filter(|(_, meaning)| meaning.image == *image).map(|(name, _)| name.clone()).collect()
    }

    /// Finds the name that a whole name means here: itself, or one whose manifest it names by digest.
    pub(crate) fn find(&self, name: &Name) -> Option<(&str, &Meaning)> {
        if let Some((text, meaning)) = self.0.get_key_value(&name.to_string()) {
            return Some((text, meaning));
        }
        let Version::Digest(digest) = &name.version else { return None };
        let repository = name.without_version();
        let same = |text: &str| {
            text.strip_prefix(&repository).is_some_and(|rest| rest.starts_with(':') || rest.starts_with('@'))
        };
        let mut all = self.0.iter();
        all.find(|(text, meaning)| meaning.manifest == Some(*digest) && same(text))
            .map(|(text, meaning)| (&**text, meaning))
    }

    /// Finds the name that a user's text means: a whole name, or the end of one; this machine's own come first.
    pub(crate) fn resolve(&self, text: &str) -> Option<(&str, &Meaning)> {
        match Reference::parse(text).ok()? {
            Reference::Registry(name) => self.find(&name),
            Reference::Short(short) => {
                let known = ["localhost", "docker.io"].into_iter().find_map(|registry| self.find(&short.at(registry)));
                known.or_else(|| {
                    let end = short.at("").to_string();
                    self.0.iter().find(|(name, _)| name.ends_with(&end)).map(|(name, meaning)| (&**name, meaning))
                })
            }
            _ => None,
        }
    }
}

/// The file with the names.
#[derive(Clone, Debug)]
pub(super) struct NamesFile {
    path: PathBuf,
    lock: PathBuf,
}

impl NamesFile {
    pub(super) fn new(root: &Path) -> Self {
        Self { path: root.join("names.json"), lock: root.join("lock") }
    }

    /// Reads the names.
    pub(super) fn read(&self) -> Result<Names, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Error::Configuration { path: self.path.clone(), reason: error.to_string() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Names::default()),
            Err(error) => Err(Error::file("read", &self.path)(error)),
        }
    }

    /// Takes the lock under which names change and images are removed.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let file = lock::open(&self.lock)?;
        file.lock().map_err(Error::file("lock", &self.lock))?;
        Ok(file)
    }

    /// Changes the names; the caller holds the lock.
    pub(super) fn write(&self, names: &Names) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(names).expect("names are plain text");
        super::write_atomic(&self.path, &text, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Names {
        let mut names = Names::default();
        for text in texts {
            let image = Digest::of(text.as_bytes());
            let manifest = Some(Digest::of(b"manifest"));
            names.insert((*text).into(), Meaning { image, manifest, origin: Origin::Local });
        }
        names
    }

    #[test]
    fn a_short_name_means_this_machines_image_first() {
        let all = names(&["docker.io/library/a:latest", "localhost/a:latest", "quay.io/x/b:1"]);
        assert_eq!(all.resolve("a").unwrap().0, "localhost/a:latest");
        assert_eq!(all.resolve("docker.io/a").unwrap().0, "docker.io/library/a:latest");
        assert_eq!(all.resolve("b:1").unwrap().0, "quay.io/x/b:1");
        assert!(all.resolve("b").is_none());
        assert!(all.resolve("x").is_none());
    }

    #[test]
    fn a_digest_means_the_image_that_was_pulled_by_tag() {
        let all = names(&["quay.io/a:1", "quay.io/ab:1"]);
        let digest = Digest::of(b"manifest");
        assert_eq!(all.resolve(&format!("quay.io/a@{digest}")).unwrap().0, "quay.io/a:1");
        assert!(all.resolve(&format!("quay.io/other@{digest}")).is_none());
    }
}
