//! Image references as podman reads them: names with tags and digests, and transports before them.
//!
//! What a short name means and where a registry is found stands in the neighbour `registries`.

use crate::{Digest, Error};
use std::fmt;
use std::path::PathBuf;

const TAG_MAX: usize = 128;
const NAME_MAX: usize = 255;
const DEFAULT_TAG: &str = "latest";

/// What a user may write where an image is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `[docker://]registry/repository[:tag][@digest]`.
    Registry(Name),
    /// A name without a registry, or an image's id.
    Short(ShortName),
    /// `oci:DIR[:TAG]`.
    OciLayout {
        /// The layout's directory.
        dir: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`.
    OciArchive {
        /// The tar archive of a layout.
        file: PathBuf,
        /// Which of its images.
        tag: Option<String>,
    },
    /// `docker-archive:FILE[:REFERENCE]`.
    DockerArchive {
        /// What `docker save` wrote.
        file: PathBuf,
        /// Which of its images.
        name: Option<String>,
    },
    /// `dir:DIR`.
    Directory(PathBuf),
    /// `containers-storage:NAME`: an image of the host's podman.
    HostStorage(String),
}

/// An image's whole name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The registry's host, with a port if it has one; `localhost` for images of this machine.
    pub registry: String,
    /// The path below it.
    pub repository: String,
    /// Tag or digest.
    pub version: Version,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// The one that has this tag now.
    Tag(String),
    /// This very one.
    Digest(Digest),
}

/// A name without a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortName {
    /// For example `busybox` or `library/busybox`.
    pub path: String,
    /// Tag or digest.
    pub version: Version,
    /// Whether a tag or digest was written: an id has none.
    pub(crate) bare: bool,
}

impl Name {
    /// Whether the name is of an image of this machine.
    pub fn is_local(&self) -> bool {
        self.registry == "localhost"
    }

    /// The name without tag and digest.
    pub fn without_version(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.registry, self.repository)?;
        match &self.version {
            Version::Tag(tag) => write!(formatter, ":{tag}"),
            Version::Digest(digest) => write!(formatter, "@{digest}"),
        }
    }
}

impl ShortName {
    /// The whole name that this is with a registry in front: `docker.io` puts single words below `library/`.
    pub fn at(&self, registry: &str) -> Name {
        let repository = match registry {
            "docker.io" if !self.path.contains('/') => format!("library/{}", self.path),
            _ => self.path.clone(),
        };
        Name { registry: registry.into(), repository, version: self.version.clone() }
    }
}

impl Reference {
    /// Reads what a user wrote.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |reason: &str| refusal(text, reason);
        let Some((transport, rest)) = text.split_once(':') else { return named(text, text) };
        let path = |rest: &str| match rest.split_once(':') {
            Some((path, tag)) if !tag.is_empty() => (PathBuf::from(path), Some(tag.to_owned())),
            _ => (PathBuf::from(rest.trim_end_matches(':')), None),
        };
        if rest.is_empty() {
            return Err(refused("nothing follows the colon"));
        }
        Ok(match transport {
            "docker" => named(rest.strip_prefix("//").ok_or_else(|| refused("docker: wants //"))?, text)?,
            "oci" => {
                let (dir, tag) = path(rest);
                Self::OciLayout { dir, tag }
            }
            "oci-archive" => {
                let (file, tag) = path(rest);
                Self::OciArchive { file, tag }
            }
            "docker-archive" => {
                let (file, name) = path(rest);
                Self::DockerArchive { file, name }
            }
            "dir" => Self::Directory(rest.into()),
            "containers-storage" => Self::HostStorage(rest.into()),
            "docker-daemon" | "sif" | "tarball" | "ostree" => {
                return Err(refused("this transport is not supported; save the image to an archive and load that"));
            }
            _ => named(text, text)?,
        })
    }
}

/// Reads a name with or without a registry; `text` is what the user wrote.
fn named(name: &str, text: &str) -> Result<Reference, Error> {
    let refused = |reason: &str| refusal(text, reason);
    let (rest, digest) = match name.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| refused("its digest is not a sha256 digest"))?)),
        None => (name, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(refused("its tag may hold letters, digits, '_', '.' and '-' only, 128 at most"));
    }
    let bare = tag.is_none() && digest.is_none();
    // With both, the digest counts, as in podman.
    let version = digest.map(Version::Digest).unwrap_or_else(|| Version::Tag(tag.unwrap_or(DEFAULT_TAG).to_owned()));
    let (registry, path) = match path.split_once('/') {
        Some((first, path)) if is_registry(first) => (Some(first), path),
        _ => (None, path),
    };
    if path.len() > NAME_MAX || !path.split('/').all(is_component) {
        return Err(refused(
            "a repository's name is lower-case letters and digits, with '.', '_', '-' and '/' between",
        ));
    }
    let short = ShortName { path: path.into(), version, bare };
    Ok(match registry {
        Some("index.docker.io" | "docker.io") => Reference::Registry(short.at("docker.io")),
        Some(registry) => Reference::Registry(short.at(registry)),
        None => Reference::Short(short),
    })
}

fn refusal(text: &str, reason: &str) -> Error {
    Error::Reference { text: text.chars().take(300).collect(), reason: reason.into() }
}

/// Whether the first part of a path is a host: by a dot, a port, or being `localhost`.
fn is_registry(part: &str) -> bool {
    let looks = part.contains('.') || part.contains(':') || part == "localhost";
    let begins = part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[');
    looks
        && begins
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'[' | b']'))
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Letters and digits with separators between: `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
    let mut separators = bytes.split(alphanumeric);
    ends && separators.all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> String {
        match Reference::parse(text).unwrap() {
            Reference::Registry(name) => name.to_string(),
            Reference::Short(short) => format!("short {}", short.at("docker.io")),
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn names_are_normalised_as_podman_does() {
        for (text, whole) in [
            ("busybox", "short docker.io/library/busybox:latest"),
            ("busybox:1.36", "short docker.io/library/busybox:1.36"),
            ("a/b", "short docker.io/a/b:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("docker://quay.io/a/b", "quay.io/a/b:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/x/y:z", "127.0.0.1:5000/x/y:z"),
            ("[::1]:5000/x:z", "[::1]:5000/x:z"),
        ] {
            assert_eq!(name(text), whole, "{text}");
        }
        assert_eq!(name(&format!("quay.io/a:tag@sha256:{HEX}")), format!("quay.io/a@sha256:{HEX}"));
    }

    #[test]
    fn transports_are_told_apart() {
        let path = PathBuf::from;
        for (text, reference) in [
            ("oci:/a/b", Reference::OciLayout { dir: path("/a/b"), tag: None }),
            ("oci:a:t", Reference::OciLayout { dir: path("a"), tag: Some("t".into()) }),
            ("oci-archive:a.tar", Reference::OciArchive { file: path("a.tar"), tag: None }),
            ("docker-archive:a:x:y", Reference::DockerArchive { file: path("a"), name: Some("x:y".into()) }),
            ("dir:/a", Reference::Directory(path("/a"))),
            ("containers-storage:x", Reference::HostStorage("x".into())),
        ] {
            assert_eq!(Reference::parse(text).unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn what_no_image_is_called_is_refused() {
        let long = "x".repeat(3000);
        for text in [
            "",
            "UPPER",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:-t",
            "a b",
            "-a",
            "a..b",
            "a___b",
            "docker:x",
            "../x",
            "a@sha256:00",
            "docker-daemon:x",
            "\u{e9}",
            &long,
            "a:\n",
        ] {
            assert!(matches!(Reference::parse(text), Err(Error::Reference { .. })), "{text}");
        }
    }
}
