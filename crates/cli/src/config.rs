//! The settings file, TOML: what a user wants without typing it each time. A flag wins over the environment, that over
//! the user's file, that over the system's.
//!
//! ```toml
//! data_dir = "/srv/fcvm"
//!
//! [run]                     # as if typed at every `run`
//! memory = "1g"
//! cpus = 2
//! network = "none"
//! vmm = "qemu"
//! firecracker = "/opt/firecracker/firecracker"
//! accel = "tcg"
//!
//! [log]
//! max_size = "10m"          # of each of a log's two files
//! ```
//! Where the files are is known to [`crate::settings`].

use crate::error::Failure;
use fcvm_spec::unit::parse_bytes;
use fcvm_spec::{Accel, NetworkMode, VmmChoice};
use serde::{Deserialize, Deserializer, de::Error};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io, str::FromStr};

/// What the files say; absent values are nobody's wish.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) run: RunDefaults,
    log: Log,
}

/// Defaults of `run`'s flags of the same names.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RunDefaults {
    #[serde(deserialize_with = "amount")]
    pub(crate) memory: Option<String>,
    pub(crate) cpus: Option<f64>,
    #[serde(deserialize_with = "parsed")]
    pub(crate) network: Option<NetworkMode>,
    pub(crate) vmm: Option<VmmChoice>,
    pub(crate) firecracker: Option<PathBuf>,
    pub(crate) accel: Option<Accel>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    #[serde(deserialize_with = "amount")]
    max_size: Option<String>,
}

impl Config {
    /// Reads files, the more important first; one that is not there says nothing.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut config = Self::default();
        for path in paths {
            match fs::read_to_string(path) {
                Ok(text) => config = config.over(Self::parse(path, &text)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::new(format!("read the settings in {}: {error}", path.display()))),
            }
        }
        Ok(config)
    }

    /// The size in bytes at which a file of a container's log is full.
    pub(crate) fn log_max_size(&self) -> Option<u64> {
        self.log.max_size.as_ref().and_then(|text| parse_bytes(text).ok())
    }

    fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            let words: Vec<&str> = error.message().split_whitespace().collect();
            Failure::new(format!(
                "{}, line {line}: {}",
                path.display(),
                words.join(" ").replace("unknown field", "unknown key")
            ))
        })
    }

    /// Fills in what this one leaves open.
    fn over(self, other: Self) -> Self {
        let (run, below) = (self.run, other.run);
        Self {
            data_dir: self.data_dir.or(other.data_dir),
            run: RunDefaults {
                memory: run.memory.or(below.memory),
                cpus: run.cpus.or(below.cpus),
                network: run.network.or(below.network),
                vmm: run.vmm.or(below.vmm),
                firecracker: run.firecracker.or(below.firecracker),
                accel: run.accel.or(below.accel),
            },
            log: Log { max_size: self.log.max_size.or(other.log.max_size) },
        }
    }
}

/// A value in the words of its flag.
fn parsed<'de, T: FromStr<Err: fmt::Display>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

/// An amount of memory, kept as it was written.
fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    parse_bytes(&text).map_err(D::Error::custom)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::parse(Path::new("/etc/f.toml"), text).unwrap_err().text()
    }

    #[test]
    fn a_file_says_what_is_wanted() {
        let text = "data_dir = '/srv'\n[run]\nmemory = '1g'\ncpus = 2\nnetwork = 'none'\nvmm = 'qemu'\nfirecracker = '/opt/fc'\naccel = 'tcg'\n[log]\nmax_size = '1m'\n";
        let config = Config::parse(Path::new("x"), text).unwrap();
        assert_eq!((config.data_dir.as_deref(), config.log_max_size()), (Some(Path::new("/srv")), Some(1 << 20)));
        let run = RunDefaults {
            memory: Some("1g".to_owned()),
            cpus: Some(2.0),
            network: Some(NetworkMode::None),
            vmm: Some(VmmChoice::Qemu),
            firecracker: Some("/opt/fc".into()),
            accel: Some(Accel::Tcg),
        };
        assert_eq!(config.run, run);
    }

    #[test]
    fn what_is_unknown_or_wrong_is_refused_with_file_and_line() {
        for (text, line, word) in [
            ("dta_dir = 'x'", 1, "dta_dir"),
            ("\n[run]\nmemory = '1g'\nmemroy = '1g'\n", 4, "memroy"),
            ("[run]\nmemory = '1x'", 2, "1x"),
            ("[run]\nnetwork = 'host'", 2, "host"),
            ("[run]\nvmm = 'xen'", 2, "xen"),
            ("[run\n", 1, "]"),
        ] {
            let said = refused(text);
            assert!(said.starts_with(&format!("/etc/f.toml, line {line}: ")) && said.contains(word), "{said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn the_first_file_wins_and_one_that_is_missing_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["user", "none", "system"].map(|name| dir.path().join(name));
        fs::write(&paths[0], "[run]\ncpus = 1.5\n").unwrap();
        fs::write(&paths[2], "data_dir = '/system'\n[run]\ncpus = 4\n").unwrap();
        let config = Config::read(&paths).unwrap();
        assert_eq!((config.data_dir, config.run.cpus), (Some("/system".into()), Some(1.5)));
    }
}
