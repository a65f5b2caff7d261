//! HTTP to one registry: TLS or not, credentials, tokens. What is asked for is the neighbours' business.

use super::challenge::Challenge;
use crate::credentials::{self, Secret};
use crate::registries::Endpoint;
use crate::{Credentials, Error, PullOptions, RegistrySettings, Tls};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use ureq::http::{Response, StatusCode};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body, Proxy};

/// A peer that is silent for longer is taken for gone; downloads are resumed.
const SILENCE: Duration = Duration::from_secs(30);
const TOKEN_MAX: u64 = 1 << 20;
/// Where distributions keep their bundle of certificate authorities.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// One registry, for one repository.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: Endpoint,
    secret: Option<Secret>,
    /// Schemes that may be tried, the best first; once one worked, only that.
    schemes: Mutex<Vec<&'static str>>,
    /// The value of `Authorization` that was accepted last.
    authorization: Mutex<Option<String>>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    /// What it is for, in errors.
    pub(super) operation: &'static str,
    /// Below `/v2/<repository>/`.
    pub(super) path: &'a str,
    pub(super) accept: Option<&'a str>,
    /// The first byte that is wanted.
    pub(super) offset: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl Client {
    pub(super) fn new(endpoint: Endpoint, options: &PullOptions) -> Result<Self, Error> {
        let insecure = match options.tls {
            Tls::Configured => endpoint.insecure || is_loopback(&endpoint.host),
            Tls::Verify => false,
            Tls::Insecure => true,
        };
        let secret = match &options.credentials {
            Some(credentials) => Some(Secret::Password(credentials.clone())),
            None => credentials::find(&options.registries, &endpoint.host, &endpoint.repository)?,
        };
        let schemes = if insecure { vec!["https", "http"] } else { vec!["https"] };
        let agent = agent(&endpoint.host, insecure, &options.registries)?;
        Ok(Self { agent, endpoint, secret, schemes: Mutex::new(schemes), authorization: Mutex::default() })
    }

    /// Sends a request, with credentials if the registry wants any.
    pub(super) fn get(&self, request: &Request<'_>) -> Result<Response<Body>, Error> {
        let response = self.try_schemes(request)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.accepted(request, response);
        }
        let challenges = response.headers().get_all("www-authenticate").iter();
        let challenge = challenges.filter_map(|value| value.to_str().ok()).find_map(Challenge::parse);
        let Some(challenge) = challenge else { return self.accepted(request, response) };
        let Some(authorization) = self.authorize(&challenge)? else { return self.accepted(request, response) };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        let response = self.try_schemes(request)?;
        self.accepted(request, response)
    }

    /// What names this place in messages.
    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.endpoint.host, self.endpoint.repository)
    }

    fn try_schemes(&self, request: &Request<'_>) -> Result<Response<Body>, Error> {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut failure = None;
        for scheme in schemes {
            match self.send(scheme, request) {
                Ok(response) => {
                    *self.schemes.lock().unwrap_or_else(PoisonError::into_inner) = vec![scheme];
                    return Ok(response);
                }
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("there is always a scheme"))
    }

    fn send(&self, scheme: &str, request: &Request<'_>) -> Result<Response<Body>, Error> {
        // Docker's registry has a name of its own.
        let host = if self.endpoint.host == "docker.io" { "registry-1.docker.io" } else { &self.endpoint.host };
        let url = format!("{scheme}://{host}/v2/{}/{}", self.endpoint.repository, request.path);
        let mut call = self.agent.get(&url);
        if let Some(accept) = request.accept {
            call = call.header("accept", accept);
        }
        if request.offset > 0 {
            call = call.header("range", format!("bytes={}-", request.offset));
        }
        if let Some(value) = &*self.authorization.lock().unwrap_or_else(PoisonError::into_inner) {
            call = call.header("authorization", value);
        }
        call.call().map_err(|error| failed(request.operation, &url, error))
    }

    fn accepted(&self, request: &Request<'_>, response: Response<Body>) -> Result<Response<Body>, Error> {
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let reason = reason(status, response);
        Err(match status {
            StatusCode::NOT_FOUND => {
                let reference = format!("{} {}", self.shown(), request.path);
                Error::NotFound { reference, reason: format!("{} does not have it: {reason}", self.endpoint.host) }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Unauthorized {
                registry: self.endpoint.host.clone(),
                repository: self.endpoint.repository.clone(),
                reason,
            },
            _ => Error::Registry {
                operation: request.operation,
                url: format!("{}/{}", self.shown(), request.path),
                reason,
            },
        })
    }

    /// Makes the value of `Authorization` that answers a challenge; nothing if we have nothing to show.
    fn authorize(&self, challenge: &Challenge) -> Result<Option<String>, Error> {
        match (challenge, &self.secret) {
            (Challenge::Basic, Some(Secret::Password(credentials))) => Ok(Some(basic(credentials))),
            (Challenge::Basic, _) => Ok(None),
            (Challenge::Bearer { realm, service, scope }, _) => {
                let default = format!("repository:{}:pull", self.endpoint.repository);
                let scope = scope.clone().unwrap_or(default);
                self.token(realm, service.as_deref(), &scope).map(Some)
            }
        }
    }

    fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<String, Error> {
        let operation = "fetch a token from";
        let refused = |reason: String| Error::Registry { operation, url: realm.into(), reason };
        let secure = self.schemes.lock().unwrap_or_else(PoisonError::into_inner).first() == Some(&"https");
        if secure && !realm.starts_with("https://") {
            return Err(refused("credentials are not sent over plain HTTP".into()));
        }
        let service = service.map(|service| ("service", service));
        let answer = match &self.secret {
            Some(Secret::Token(token)) => {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("scope", scope),
                    ("client_id", "fcvm"),
                ];
                self.agent.post(realm).send_form(fields.into_iter().chain(service))
            }
            secret => {
                let mut call = self.agent.get(realm).query("scope", scope);
                if let Some((key, value)) = service {
                    call = call.query(key, value);
                }
                if let Some(Secret::Password(credentials)) = secret {
                    call = call.header("authorization", basic(credentials));
                }
                call.call()
            }
        };
        let response = answer.map_err(|error| failed(operation, realm, error))?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN {
            let (registry, repository) = (self.endpoint.host.clone(), self.endpoint.repository.clone());
            return Err(Error::Unauthorized { registry, repository, reason: reason(status, response) });
        }
        if !status.is_success() {
            return Err(refused(reason(status, response)));
        }
        let bytes = response.into_body().into_with_config().limit(TOKEN_MAX).read_to_vec();
        let bytes = bytes.map_err(|error| failed(operation, realm, error))?;
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
        let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
        if token.is_empty() { Err(refused("it gave none".into())) } else { Ok(format!("Bearer {token}")) }
    }
}

fn basic(credentials: &Credentials) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", credentials.user, credentials.password)))
}

fn failed(operation: &'static str, url: &str, error: ureq::Error) -> Error {
    Error::Registry { operation, url: url.into(), reason: error.to_string() }
}

/// The registry's own words about a refusal, shortened, or the status.
fn reason(status: StatusCode, response: Response<Body>) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let body = response.into_body().into_with_config().limit(64 << 10).read_to_vec().unwrap_or_default();
    let first = serde_json::from_slice::<Answer>(&body).ok().and_then(|answer| answer.errors.into_iter().next());
    let text = first.map_or_else(|| status.to_string(), |error| format!("{} ({})", error.message, error.code));
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

/// Whether a host is this machine.
fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn agent(host: &str, insecure: bool, settings: &RegistrySettings) -> Result<Agent, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .disable_verification(insecure)
        .root_certs(RootCerts::new_with_certs(&authorities(host, settings)?))
        .build();
    let proxy = match &settings.proxy {
        Some(address) if !is_loopback(host) => Some(Proxy::new(address).map_err(|error| Error::Registry {
            operation: "use the proxy",
            url: address.clone(),
            reason: error.to_string(),
        })?),
        _ => None,
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(tls)
        .proxy(proxy)
        .user_agent(concat!("fcvm/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(SILENCE))
        .timeout_connect(Some(SILENCE))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE));
    Ok(config.build().new_agent())
}

/// The system's authorities and those that are trusted for this registry only.
fn authorities(host: &str, settings: &RegistrySettings) -> Result<Vec<Certificate<'static>>, Error> {
    let known: Vec<PathBuf> = match settings.ca_bundles.as_slice() {
        [] => CA_BUNDLES.iter().map(PathBuf::from).collect(),
        bundles => bundles.to_vec(),
    };
    let mut files: Vec<PathBuf> = known.into_iter().find(|path| path.is_file()).into_iter().collect();
    for dir in &settings.certs_dirs {
        let Ok(entries) = fs::read_dir(dir.join(host)) else { continue };
        let paths = entries.flatten().map(|entry| entry.path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "crt")));
    }
    let mut all = Vec::new();
    for path in files {
        all.extend(certificates(&path)?);
    }
    Ok(all)
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let bytes = fs::read(path).map_err(Error::file("read", path))?;
    let items = ureq::tls::parse_pem(&bytes).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    Ok(items.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1:5000", "[::2]:5000", "docker.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
