//! Credentials for registries: containers' `auth.json` and docker's `config.json`, which are one format, and the helper
//! programs that they name.

use crate::{Credentials, Error, RegistrySettings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How docker's files call its own registry.
const DOCKER_LEGACY: &str = "index.docker.io";
const DOCKER: &str = "docker.io";
/// The user that helpers give with a token that is no password.
const TOKEN_USER: &str = "<token>";

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// A user and a password.
    Password(Credentials),
    /// An identity token.
    Token(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, AuthEntry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
struct AuthEntry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// Finds the credentials for a repository of a registry; the first file that knows any counts.
pub(crate) fn find(settings: &RegistrySettings, host: &str, repository: &str) -> Result<Option<Secret>, Error> {
    for path in &settings.auth_files {
        let Some(file) = read(path)? else { continue };
        if let Some(helper) = file.cred_helpers.get(host)
            && let Some(secret) = ask(helper, host, &settings.search_path)?
        {
            return Ok(Some(secret));
        }
        if let Some(entry) = entry(&file, host, repository)
            && let Some(secret) = entry.secret(path)?
        {
            return Ok(Some(secret));
        }
        if let Some(helper) = &file.creds_store {
            let server = if host == DOCKER { "https://index.docker.io/v1/" } else { host };
            if let Some(secret) = ask(helper, server, &settings.search_path)? {
                return Ok(Some(secret));
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<AuthFile>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let wrong = |error: serde_json::Error| Error::Configuration { path: path.to_owned(), reason: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

/// Finds the entry for the longest part of the repository's path, then for the registry itself, as containers/image does.
fn entry<'a>(file: &'a AuthFile, host: &str, repository: &str) -> Option<&'a AuthEntry> {
    let mut wanted = format!("{host}/{repository}");
    loop {
        if let Some(entry) = file.auths.get(&wanted) {
            return Some(entry);
        }
        let end = wanted.rfind('/')?;
        wanted.truncate(end);
        if wanted == host {
            break;
        }
    }
    let found = file.auths.iter().find(|(key, _)| bare_host(key) == host);
    found.map(|(_, entry)| entry)
}

/// Strips what docker's older files write around a host: `https://host/v1/`.
fn bare_host(key: &str) -> &str {
    let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = host.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    if host == DOCKER_LEGACY { DOCKER } else { host }
}

impl AuthEntry {
    fn secret(&self, path: &Path) -> Result<Option<Secret>, Error> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Secret::Token(token.clone())));
        }
        let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let wrong =
            || Error::Configuration { path: path.to_owned(), reason: "an auth is no user:password in base64".into() };
        let text = String::from_utf8(STANDARD.decode(auth).map_err(|_| wrong())?).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Secret::Password(Credentials { user: user.into(), password })))
    }
}

/// Asks a helper program (`docker-credential-NAME get`); nothing if it knows nothing.
fn ask(helper: &str, server: &str, search_path: &[PathBuf]) -> Result<Option<Secret>, Error> {
    let program = format!("docker-credential-{helper}");
    let failed = |reason: String| Error::Program {
        program: program.clone(),
        operation: format!("get the credentials for {server}"),
        reason,
    };
    if helper.contains('/') {
        return Err(failed("its name has a slash in it".into()));
    }
    let path = search_path.iter().map(|dir| dir.join(&program)).find(|path| path.is_file());
    let path = path.ok_or_else(|| failed("it is not installed".into()))?;
    let mut command = Command::new(path);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not listen will not answer either.
        let _ = stdin.write_all(server.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        // That is how helpers say that they have none.
        return Ok(None);
    }
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    Ok(Some(match answer.username.as_str() {
        TOKEN_USER => Secret::Token(answer.secret),
        _ => Secret::Password(Credentials { user: answer.username, password: answer.secret }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn settings(place: &Path, files: &[&str]) -> RegistrySettings {
        let auth_files = files.iter().enumerate().map(|(n, text)| {
            let path = place.join(format!("{n}.json"));
            fs::write(&path, text).unwrap();
            path
        });
        let auth_files = auth_files.collect();
        RegistrySettings { auth_files, search_path: vec![place.to_owned()], ..RegistrySettings::default() }
    }

    fn user(settings: &RegistrySettings, host: &str, repository: &str) -> Option<String> {
        match find(settings, host, repository).unwrap()? {
            Secret::Password(credentials) => Some(format!("{}:{}", credentials.user, credentials.password)),
            Secret::Token(token) => Some(format!("token {token}")),
        }
    }

    fn auth(text: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(text))
    }

    #[test]
    fn the_longest_path_counts_and_then_the_registry() {
        let place = tempfile::tempdir().unwrap();
        let file = format!(
            r#"{{"auths":{{"a.example":{},"a.example/team":{},"https://index.docker.io/v1/":{}}}}}"#,
            auth("u:p:q"),
            auth("t:p"),
            auth("d:p")
        );
        let settings = settings(place.path(), &[&file]);
        assert_eq!(user(&settings, "a.example", "team/x").as_deref(), Some("t:p"));
        assert_eq!(user(&settings, "a.example", "teams/x").as_deref(), Some("u:p:q"));
        assert_eq!(user(&settings, "docker.io", "library/x").as_deref(), Some("d:p"));
        assert_eq!(user(&settings, "b.example", "x"), None);
    }

    #[test]
    fn the_first_file_that_knows_any_counts_and_absent_ones_do_not() {
        let place = tempfile::tempdir().unwrap();
        let mut settings = settings(
            place.path(),
            &["{}", r#"{"auths":{"a.example":{"identitytoken":"i"}}}"#, r#"{"auths":{"a.example":{"auth":"!"}}}"#],
        );
        settings.auth_files.insert(0, place.path().join("absent"));
        assert_eq!(user(&settings, "a.example", "x").as_deref(), Some("token i"));
        settings.auth_files.remove(2);
        assert!(matches!(find(&settings, "a.example", "x"), Err(Error::Configuration { .. })));
    }

    #[test]
    fn a_helper_is_asked_and_a_missing_one_is_named() {
        let place = tempfile::tempdir().unwrap();
        let helper = place.path().join("docker-credential-test");
        let script = "#!/bin/sh\n[ \"$1 $(cat)\" = \"get a.example\" ] || exit 1\necho '{\"Username\":\"h\",\"Secret\":\"s\"}'\n";
        fs::write(&helper, script).unwrap();
        fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        let settings = settings(
            place.path(),
            &[r#"{"credHelpers":{"a.example":"test","c.example":"absent","d.example":"../x"},"credsStore":"test"}"#],
        );
        assert_eq!(user(&settings, "a.example", "x").as_deref(), Some("h:s"));
        assert_eq!(user(&settings, "b.example", "x"), None);
        for host in ["c.example", "d.example"] {
            assert!(matches!(find(&settings, host, "x"), Err(Error::Program { .. })));
        }
    }
}
