//! Flags about a container's health, and the words that podman has for them.

use crate::error::Failure;
use clap::Args;
use fcvm_spec::health::parse_duration;
use fcvm_spec::{HealthAsked, HealthSpec};
use std::time::Duration;

/// `--health-*` of `run` and `prepare`.
#[derive(Debug, Default, Args)]
pub(crate) struct HealthArgs {
    /// Ask this in the container whether it is well: a command line, a JSON list, or none
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Ask for this page too: http://NAME[:PORT][/PATH]
    #[arg(long, alias = "health-check", value_name = "URL")]
    health_url: Option<String>,
    /// Time between two checks, 30s by default
    #[arg(long, value_name = "TIME")]
    health_interval: Option<String>,
    /// Time that a check may take, 30s by default
    #[arg(long, value_name = "TIME")]
    health_timeout: Option<String>,
    /// Time after the start in which failures mean nothing
    #[arg(long, value_name = "TIME")]
    health_start_period: Option<String>,
    /// Failures in a row that make it unhealthy, 3 by default
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    health_retries: Option<u32>,
    /// Do not ask what the image says
    #[arg(long, conflicts_with = "health_cmd")]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// Checks every flag.
    pub(crate) fn spec(&self) -> Result<HealthSpec, Failure> {
        let time = |text: &Option<String>| -> Result<Option<Duration>, Failure> {
            Ok(text.as_deref().map(parse_duration).transpose()?)
        };
        let interval = time(&self.health_interval)?;
        if interval.is_some_and(|interval| interval.is_zero()) {
            return Err(Failure::new("invalid --health-interval: it has to be longer than nothing"));
        }
        Ok(HealthSpec {
            check: match &self.health_cmd {
                Some(text) => HealthAsked::parse(text)?,
                None if self.no_healthcheck => HealthAsked::None,
                None => HealthAsked::Image,
            },
            url: self.health_url.as_ref().map(|url| url.parse()).transpose()?,
            interval,
            timeout: time(&self.health_timeout)?,
            start_period: time(&self.health_start_period)?,
            retries: self.health_retries,
        })
    }
}
