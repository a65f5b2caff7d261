//! What a VM's owner does when its container has ended: podman's restart policies.

use crate::Invalid;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Whether a container that has ended is started again.
///
/// There is no process here that outlives a restart of the host and would tell `always` from `unless-stopped`: both hold
/// until someone stops the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// If its code is not 0.
    OnFailure {
        /// So often at most.
        most: Option<NonZeroU32>,
    },
    /// Whatever its code is.
    Always,
    /// The same.
    UnlessStopped,
}

impl RestartPolicy {
    /// Podman's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure { .. } => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// How often at most it restarts a container; 0: as often as it takes.
    pub fn most(self) -> u32 {
        match self {
            Self::OnFailure { most: Some(most) } => most.get(),
            _ => 0,
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most() {
            0 => f.write_str(self.name()),
            most => write!(f, "{}:{most}", self.name()),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = Invalid;

    /// Reads `no`, `on-failure[:N]`, `always` or `unless-stopped`; nothing is `no`, as in podman.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refused = || Invalid::new("restart policy", text, "no, on-failure[:N], always or unless-stopped");
        match text.split_once(':') {
            Some(("on-failure", most)) => {
                let most = most.parse::<u32>().map_err(|_| refused())?;
                Ok(Self::OnFailure { most: NonZeroU32::new(most) })
            }
            Some(_) => Err(refused()),
            None => match text {
                "" | "no" | "never" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { most: None }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(refused()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_written() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("".parse::<RestartPolicy>().unwrap(), RestartPolicy::No);
        assert_eq!("on-failure:0".parse::<RestartPolicy>().unwrap(), RestartPolicy::OnFailure { most: None });
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for text in ["sometimes", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "No"] {
            assert!(text.parse::<RestartPolicy>().is_err(), "{text}");
        }
    }
}
