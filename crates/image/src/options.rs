//! What the caller may choose: when to ask a registry, for which platform, with which credentials and settings.

use crate::{Limits, arch};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// When a registry is asked, in podman's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Always; what is here already is not fetched again.
    Always,
    /// Only if the image is not here.
    #[default]
    Missing,
    /// Never.
    Never,
    /// Always, but the one here is good enough where the registry cannot be reached.
    Newer,
}

impl FromStr for PullPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" | "true" => Ok(Self::Always),
            "missing" | "ifnotpresent" | "" => Ok(Self::Missing),
            "never" | "false" => Ok(Self::Never),
            "newer" | "ifnewer" => Ok(Self::Newer),
            other => Err(format!("unsupported pull policy {other:?}; it is one of always, missing, never, newer")),
        }
    }
}

/// Operating system, architecture and its variant, as image indexes name them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `amd64`.
    pub architecture: String,
    /// For example `v7`; if none, what this machine runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on this machine's architecture.
    pub fn host() -> Self {
        Self { os: "linux".into(), architecture: arch::ARCHITECTURE.into(), variant: None }
    }

    /// Ranks an offered variant: lower is better, none is unfit.
    pub(crate) fn rank(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<usize> {
        if os != self.os || architecture != self.architecture {
            return None;
        }
        match (self.variant.as_deref(), variant) {
            (Some(wanted), Some(offered)) => (wanted == offered).then_some(0),
            (_, None) => Some(1),
            (None, Some(offered)) if architecture != arch::ARCHITECTURE => (offered != "v5").then_some(2),
            (None, Some(offered)) => arch::VARIANTS.contains(&offered).then_some(0),
        }
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self::host()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && parts.iter().all(|part| !part.is_empty()) => {
                let variant = rest.first().map(|variant| variant.to_string());
                Ok(Self { os: os.to_string(), architecture: architecture.to_string(), variant })
            }
            _ => Err(format!("invalid platform {text:?}; it is OS/ARCHITECTURE[/VARIANT]")),
        }
    }
}

/// A user and a password, as `--creds USER:PASSWORD` gives them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Credentials({}, …)", self.user)
    }
}

/// Where the configuration of registries and credentials is. Every path may be absent; nothing else is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// `registries.conf` candidates: the first that exists counts (the user's before the system's).
    pub registries_conf: Vec<PathBuf>,
    /// `registries.conf.d` directories, weakest first; `*.conf` of each in the order of their names.
    pub registries_conf_dirs: Vec<PathBuf>,
    /// Credentials, the first match counts: containers' `auth.json` files, then `~/.docker/config.json`.
    pub auth_files: Vec<PathBuf>,
    /// `certs.d` directories: `<dir>/<host[:port]>/*.crt` are further authorities for that registry.
    pub certs_dirs: Vec<PathBuf>,
    /// Certificate authorities: the first bundle that exists counts. If none is named, where distributions keep it.
    pub ca_bundles: Vec<PathBuf>,
    /// Directories in which credential helpers, podman and skopeo are looked for.
    pub search_path: Vec<PathBuf>,
    /// An HTTP proxy's address for registries that are not on this machine, for example from `HTTPS_PROXY`.
    pub proxy: Option<String>,
}

/// How an image is to be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullOptions {
    /// When to ask.
    pub policy: PullPolicy,
    /// For which machine.
    pub platform: Platform,
    /// Explicit credentials; they win over files.
    pub credentials: Option<Credentials>,
    /// `--tls-verify`: by default loopback registries may speak plain HTTP and others must not.
    pub tls: Tls,
    /// Configuration and credentials.
    pub registries: RegistrySettings,
    /// What an image may cost.
    pub limits: Limits,
}

/// Whether a registry must prove who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// By `registries.conf`; loopback addresses need not.
    #[default]
    Configured,
    /// It must.
    Verify,
    /// It need not, and plain HTTP is fine.
    Insecure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_survives_its_text() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "a/b/c/d", "/amd64"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_matching_variant_is_better_than_none_and_another_is_unfit() {
        let wanted: Platform = "linux/arm/v7".parse().unwrap();
        assert_eq!(wanted.rank("linux", "arm", Some("v7")), Some(0));
        assert_eq!(wanted.rank("linux", "arm", None), Some(1));
        assert_eq!(wanted.rank("linux", "arm", Some("v6")), None);
        assert_eq!(wanted.rank("windows", "arm", Some("v7")), None);
    }

    #[test]
    fn a_password_is_not_in_the_debug_text() {
        let credentials = Credentials { user: "u".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
