//! `registries.conf` and its drop-ins (containers-registries.conf(5), version 2): what short names mean, where registries are
//! really found, which are insecure, blocked or mirrored.

use crate::reference::{Name, Reference, ShortName, Version};
use crate::{Error, RegistrySettings};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where short names are looked for when no file says so.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The configuration, all files together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registries {
    /// Nothing if no file names any.
    search: Option<Vec<String>>,
    aliases: BTreeMap<String, String>,
    registries: Vec<RawRegistry>,
}

/// One place where a repository may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host and port.
    pub(crate) host: String,
    /// The path below it.
    pub(crate) repository: String,
    /// Whether TLS need not be right, or be there.
    pub(crate) insecure: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawFile {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(default)]
    registry: Vec<RawRegistry>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawRegistry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<RawMirror>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawMirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Option<String>,
}

impl Registries {
    /// Reads the files that the settings name.
    pub(crate) fn read(settings: &RegistrySettings) -> Result<Self, Error> {
        let mut this = Self::default();
        let mut files = Vec::new();
        files.extend(settings.registries_conf.iter().find(|path| path.is_file()).cloned());
        for dir in &settings.registries_conf_dirs {
            files.extend(drop_ins(dir)?);
        }
        for path in files {
            let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            let file: RawFile = toml::from_str(&text)
                .map_err(|error| Error::Configuration { path: path.clone(), reason: error.message().to_owned() })?;
            this.add(file);
        }
        Ok(this)
    }

    /// A later file wins: whole lists, and single entries by their keys.
    fn add(&mut self, file: RawFile) {
        if file.unqualified_search_registries.is_some() {
            self.search = file.unqualified_search_registries;
        }
        self.aliases.extend(file.aliases);
        for mut registry in file.registry {
            if registry.prefix.is_empty() {
                registry.prefix = registry.location.clone();
            }
            self.registries.retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
    }

    /// Returns what a short name may mean in registries: its alias, or itself in every search registry.
    pub(crate) fn candidates(&self, short: &ShortName) -> Result<Vec<Name>, Error> {
        if let Some(alias) = self.aliases.get(&short.path).filter(|alias| !alias.is_empty()) {
            let Ok(Reference::Registry(name)) = Reference::parse(alias) else {
                let reason = format!("its alias {alias:?} is no whole name");
                return Err(Error::Reference { text: short.path.clone(), reason });
            };
            return Ok(vec![Name { version: short.version.clone(), ..name }]);
        }
        let default = [DEFAULT_REGISTRY.to_owned()];
        let search = self.search.as_deref().unwrap_or(&default);
        if search.is_empty() {
            let reason = "it has no registry, and registries.conf names none to search".into();
            return Err(Error::Reference { text: short.path.clone(), reason });
        }
        let names = search.iter().map(|registry| match registry.split_once('/') {
            Some((host, path)) => Name {
                registry: host.into(),
                repository: format!("{path}/{}", short.path),
                version: short.version.clone(),
            },
            None => short.at(registry),
        });
        Ok(names.collect())
    }

    /// Returns where a name may be found: mirrors, then the registry itself.
    pub(crate) fn endpoints(&self, name: &Name) -> Result<Vec<Endpoint>, Error> {
        let whole = name.without_version();
        let matching = self.registries.iter().filter_map(|registry| Some((registry, matched(&registry.prefix, name)?)));
        let Some((registry, length)) = matching.max_by_key(|(_, length)| *length) else {
            return Ok(vec![endpoint(&whole, false)]);
        };
        if registry.blocked {
            return Err(Error::Blocked(registry.prefix.clone()));
        }
        let moved = |location: &str| {
            if location.is_empty() { whole.clone() } else { format!("{location}{}", &whole[length..]) }
        };
        let by_digest = matches!(name.version, Version::Digest(_));
        let usable = |mirror: &&RawMirror| match mirror.pull_from_mirror.as_deref() {
            Some("digest-only") => by_digest,
            Some("tag-only") => !by_digest,
            _ => by_digest || !registry.mirror_by_digest_only,
        };
        let mirrors = registry.mirror.iter().filter(usable);
        let mut all: Vec<Endpoint> =
            mirrors.map(|mirror| endpoint(&moved(&mirror.location), mirror.insecure)).collect();
        all.push(endpoint(&moved(&registry.location), registry.insecure));
        Ok(all)
    }
}

fn endpoint(location: &str, insecure: bool) -> Endpoint {
    let (host, repository) = location.split_once('/').unwrap_or((location, ""));
    Endpoint { host: host.into(), repository: repository.into(), insecure }
}

/// How many bytes of a name a prefix covers: whole parts, or `*.example.com` for any host below.
fn matched(prefix: &str, name: &Name) -> Option<usize> {
    let whole = name.without_version();
    if let Some(domain) = prefix.strip_prefix("*.") {
        let below = name.registry.strip_suffix(domain)?.ends_with('.');
        return below.then_some(name.registry.len());
    }
    let rest = whole.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
}

/// Lists the `*.conf` files of a directory in the order of their names.
fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read directory", dir)(error)),
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Registries {
        let mut registries = Registries::default();
        texts.iter().for_each(|text| registries.add(toml::from_str(text).unwrap()));
        registries
    }

    fn short(text: &str) -> ShortName {
        let Ok(Reference::Short(short)) = Reference::parse(text) else { panic!("{text} is not short") };
        short
    }

    fn names(registries: &Registries, text: &str) -> Vec<String> {
        registries.candidates(&short(text)).unwrap().iter().map(ToString::to_string).collect()
    }

    fn places(registries: &Registries, text: &str) -> Vec<String> {
        let Ok(Reference::Registry(name)) = Reference::parse(text) else { panic!("{text} is short") };
        let endpoints = registries.endpoints(&name).unwrap();
        let shown = endpoints.iter().map(|place| {
            format!("{}/{}{}", place.host, place.repository, if place.insecure { " insecure" } else { "" })
        });
        shown.collect()
    }

    #[test]
    fn without_any_file_short_names_are_looked_for_where_docker_does() {
        let registries = Registries::read(&RegistrySettings::default()).unwrap();
        assert_eq!(names(&registries, "busybox"), ["docker.io/library/busybox:latest"]);
        assert_eq!(places(&registries, "quay.io/a/b"), ["quay.io/a/b"]);
    }

    #[test]
    fn search_registries_and_aliases_of_later_files_win() {
        let registries = parse(&[
            "unqualified-search-registries = ['one.example']\n[aliases]\na = 'one.example/x/a'\nb = 'one.example/b'",
            "unqualified-search-registries = ['two.example', 'docker.io']\n[aliases]\na = 'two.example/y/a'\nb = ''",
        ]);
        assert_eq!(names(&registries, "a:1"), ["two.example/y/a:1"]);
        let searched = ["two.example/b:latest", "docker.io/library/b:latest"];
        assert_eq!(names(&registries, "b"), searched);
    }

    #[test]
    fn an_empty_search_list_refuses_short_names() {
        let registries = parse(&["unqualified-search-registries = []"]);
        assert!(matches!(registries.candidates(&short("a")), Err(Error::Reference { .. })));
    }

    #[test]
    fn the_longest_prefix_moves_and_mirrors_a_name() {
        let registries = parse(&["
            [[registry]]
            prefix = 'example.com'
            insecure = true
            [[registry]]
            prefix = 'example.com/team'
            location = 'inner.example:5000/t'
            [[registry.mirror]]
            location = 'mirror.example/m'
            insecure = true
            [[registry.mirror]]
            location = 'digests.example/m'
            pull-from-mirror = 'digest-only'
            [[registry]]
            prefix = '*.evil.example'
            blocked = true
        "]);
        let moved = ["mirror.example/m/x insecure", "inner.example:5000/t/x"];
        assert_eq!(places(&registries, "example.com/team/x"), moved);
        assert_eq!(places(&registries, "example.com/teams/x"), ["example.com/teams/x insecure"]);
        let Ok(Reference::Registry(name)) = Reference::parse("a.evil.example/x") else { panic!() };
        assert!(matches!(registries.endpoints(&name), Err(Error::Blocked(_))));
    }
}
