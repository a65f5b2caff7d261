//! Docker's `HEALTHCHECK`, which is in its configurations and not in OCI's.

use serde::Deserialize;
use std::time::Duration;

/// A check that an image names. Absent times are the runner's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `CMD` and words, `CMD-SHELL` and a line, or `NONE`.
    pub test: Vec<String>,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Option<Duration>,
    /// How long failures mean nothing after the start.
    pub start_period: Option<Duration>,
    /// Failures in a row that make a container unhealthy.
    pub retries: Option<u32>,
}

#[derive(Deserialize)]
struct Config {
    config: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(rename = "Healthcheck")]
    health: Option<Written>,
}

/// Times are in nanoseconds; none or 0 is the runner's own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Written {
    test: Vec<String>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    retries: i64,
}

/// Finds it in a configuration. One that makes no sense is as none: the image runs all the same.
pub(crate) fn of_config(text: &str) -> Option<HealthCheck> {
    let written = serde_json::from_str::<Config>(text).ok()?.config?.health?;
    let time = |ns: i64| u64::try_from(ns).ok().filter(|ns| *ns > 0).map(Duration::from_nanos);
    Some(HealthCheck {
        test: Some(written.test).filter(|test| !test.is_empty())?,
        interval: time(written.interval),
        timeout: time(written.timeout),
        start_period: time(written.start_period),
        retries: u32::try_from(written.retries).ok().filter(|retries| *retries > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_found_where_docker_writes_it() {
        let text = r#"{"config":{"Healthcheck":{"Test":["CMD","ok"],"Interval":2000000000,"Retries":5,"Timeout":-1}}}"#;
        let check = of_config(text).unwrap();
        assert_eq!(check.test, ["CMD", "ok"]);
        assert_eq!((check.interval, check.timeout, check.retries), (Some(Duration::from_secs(2)), None, Some(5)));
    }

    #[test]
    fn what_is_none_or_makes_no_sense_is_none() {
        for text in [
            "{}",
            r#"{"config":null}"#,
            r#"{"config":{}}"#,
            r#"{"config":{"Healthcheck":{"Test":7}}}"#,
            r#"{"config":{"Healthcheck":{"Interval":1}}}"#,
        ] {
            assert_eq!(of_config(text), None, "{text}");
        }
    }
}
