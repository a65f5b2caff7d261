//! How it is told whether a container is well: podman's `--health-*`, and a URL.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What was asked about a container's health. Absent values come from the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthSpec {
    /// What is asked of the container.
    pub check: HealthAsked,
    /// A page of the container that has to answer as well.
    pub url: Option<HealthUrl>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Option<Duration>,
    /// How long failures mean nothing after the start.
    pub start_period: Option<Duration>,
    /// Failures in a row that make a container unhealthy.
    pub retries: Option<u32>,
}

/// Which command says whether a container is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthAsked {
    /// The image's `HEALTHCHECK`, if it has one.
    #[default]
    Image,
    /// None.
    None,
    /// This one.
    Command(HealthCommand),
}

/// A program and its arguments, run in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HealthCommand(Vec<String>);

impl HealthCommand {
    /// Takes the words of an image's `HEALTHCHECK`: `CMD` and words, `CMD-SHELL` and a line, or bare words. None: `NONE`.
    pub fn of_image(words: &[String]) -> Option<Self> {
        match words {
            [] => None,
            [kind, ..] if kind == "NONE" => None,
            [kind, line @ ..] if kind == "CMD-SHELL" => Some(Self::shell(&line.join(" "))),
            [kind, words @ ..] if kind == "CMD" => Some(Self(words.to_vec())),
            words => Some(Self(words.to_vec())),
        }
        .filter(|command| !command.0.is_empty())
    }

    fn shell(line: &str) -> Self {
        Self(["/bin/sh", "-c", line].map(str::to_owned).to_vec())
    }

    /// Its words.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl HealthAsked {
    /// Parses `--health-cmd`: a line for the shell, a JSON list of words, or `none`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("health command", text, "a command, a JSON list of words, or none is expected");
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        if text.trim_start().starts_with('[') {
            let words: Vec<String> = serde_json::from_str(text).map_err(|_| wrong())?;
            return HealthCommand::of_image(&words).map(Self::Command).ok_or_else(wrong);
        }
        if text.trim().is_empty() || text.contains('\0') {
            return Err(wrong());
        }
        Ok(Self::Command(HealthCommand::shell(text)))
    }
}

/// A page of the container, `http://NAME[:PORT][/PATH]`. The name only says which site is asked for: the request always
/// goes to the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HealthUrl {
    /// What is sent as `Host`.
    pub host: String,
    /// The container's port.
    pub port: u16,
    /// With its leading slash.
    pub path: String,
}

impl std::str::FromStr for HealthUrl {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new("health URL", text, "http://NAME[:PORT][/PATH] is expected");
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?),
            None => (authority, 80),
        };
        // One line of a request is made of it.
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || !plain(authority) || !plain(path) {
            return Err(wrong());
        }
        Ok(Self { host: authority.to_owned(), port, path: path.to_owned() })
    }
}

impl TryFrom<String> for HealthUrl {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<HealthUrl> for String {
    fn from(url: HealthUrl) -> Self {
        let port = if url.host.contains(':') { String::new() } else { format!(":{}", url.port) };
        format!("http://{}{port}{}", url.host, url.path)
    }
}

/// Parses a time as Go writes it, for example `1m30s` or `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, Invalid> {
    let wrong = || Invalid::new("time", text, "a number and a unit are expected, for example 30s, 1m30s or 500ms");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].find(|letter: char| letter.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn commands_are_lines_lists_or_none() {
        let asked = |text: &str| HealthAsked::parse(text).unwrap();
        let command = |texts: &[&str]| HealthAsked::Command(HealthCommand(words(texts)));
        assert_eq!(asked("none"), HealthAsked::None);
        assert_eq!(asked("true || false"), command(&["/bin/sh", "-c", "true || false"]));
        assert_eq!(asked(r#"["CMD","a","b c"]"#), command(&["a", "b c"]));
        assert_eq!(asked(r#"["CMD-SHELL","a b"]"#), command(&["/bin/sh", "-c", "a b"]));
        for wrong in ["", " ", "[1]", "[]", r#"["CMD"]"#, "a\0b"] {
            assert!(HealthAsked::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(HealthCommand::of_image(&words(&["NONE"])), None);
        assert_eq!(HealthCommand::of_image(&[]), None);
    }

    #[test]
    fn urls_have_a_site_a_port_and_a_path() {
        for (text, host, port, path) in
            [("http://localhost", "localhost", 80, "/"), ("http://site:8080/a?b=c", "site:8080", 8080, "/a?b=c")]
        {
            let url: HealthUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path));
            assert_eq!(String::from(url.clone()).parse::<HealthUrl>().unwrap().port, port);
        }
        for wrong in ["", "https://a", "http://", "http://a:0/", "http://a:x", "http://a/\r\nb", "http://a b/"] {
            assert!(wrong.parse::<HealthUrl>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_sums_of_units() {
        assert_eq!(parse_duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse_duration("0s").unwrap(), Duration::ZERO);
        for wrong in ["", "5", "s", "1x", "-1s", "1s2", "1..2s", "99999999999999999999h"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
