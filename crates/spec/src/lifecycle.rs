//! The phases of a VM, and which event leads where.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a VM is doing.
///
/// ```text
///            Started            ExitedItself | StopAsked…Ended
/// Starting ───────────► Running ─────────────────────────────► Exited
///    │                     │ StopAsked            Ended ▲
///    │ Failed              └────────────► Stopping ─────┘
///    └──────────────────────────────────────────────────────► Exited
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its owner is preparing or booting it.
    Starting,
    /// Its container runs.
    Running,
    /// It was asked to end.
    Stopping,
    /// Its machine is gone; what it left is its record, its logs and its scratch disk.
    Exited,
}

/// What happens to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its container runs.
    Started,
    /// Someone asked it to end.
    StopAsked,
    /// Its machine is gone, for whatever reason.
    Ended,
}

impl Phase {
    /// Returns the phase that follows, or none where the event cannot happen.
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Starting, Event::Started) => Some(Self::Running),
            (Self::Starting | Self::Running | Self::Stopping, Event::StopAsked) => Some(Self::Stopping),
            (Self::Stopping, Event::Started) => Some(Self::Stopping),
            (Self::Starting | Self::Running | Self::Stopping, Event::Ended) => Some(Self::Exited),
            (Self::Running, Event::Started) | (Self::Exited, _) => None,
        }
    }

    /// Whether a process owns the VM in this phase.
    pub fn is_live(self) -> bool {
        self != Self::Exited
    }

    /// Returns podman's word for it.
    pub fn podman(self) -> &'static str {
        match self {
            Self::Starting => "created",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.podman())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exited_vm_stays_exited() {
        for event in [Event::Started, Event::StopAsked, Event::Ended] {
            assert_eq!(Phase::Exited.after(event), None);
        }
    }

    #[test]
    fn a_stop_during_start_is_not_undone_by_the_start() {
        let phase = Phase::Starting.after(Event::StopAsked).and_then(|phase| phase.after(Event::Started));
        assert_eq!(phase, Some(Phase::Stopping));
    }
}
