//! The phases of a VM, which event leads where, and what follows when one of its machines has ended.

use crate::RestartPolicy;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a VM is doing.
///
/// ```text
/// Created ┐           Started          Paused
///         ├► Starting ──────► Running ───────► Paused
/// Exited ─┘ Claimed           │ ▲  ▲ ◄─────────┘ │
///                     Renewed │ │  └ Resumed     │ Renewed
///                             ▼ │ Started        │
///                           Restarting ◄─────────┘
///
/// from every phase that a process owns:   ── StopAsked ──► Stopping,   ── Ended ──► Exited
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It was asked for and not started; no process owns it.
    Created,
    /// Its owner is preparing or booting it.
    Starting,
    /// Its container runs.
    Running,
    /// Its machine stands still.
    Paused,
    /// It was asked to end.
    Stopping,
    /// Its machine is gone, and its owner makes another one.
    Restarting,
    /// Its machine is gone; what it left is its record, its logs and its scratch disk.
    Exited,
}

/// What happens to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process owns it, to start it.
    Claimed,
    /// Its container runs.
    Started,
    /// Its machine was told to stand still.
    Paused,
    /// Its machine was told to go on.
    Resumed,
    /// Someone asked it to end.
    StopAsked,
    /// Its machine is gone, and another takes its place.
    Renewed,
    /// Its machine is gone, for whatever reason.
    Ended,
}

impl Phase {
    /// Returns the phase that follows, or none where the event cannot happen.
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Created | Self::Exited, Event::Claimed) => Some(Self::Starting),
            (Self::Created | Self::Exited, _) | (_, Event::Claimed) => None,
            (_, Event::Ended) => Some(Self::Exited),
            (_, Event::StopAsked) => Some(Self::Stopping),
            (Self::Starting | Self::Restarting, Event::Started) | (Self::Paused, Event::Resumed) => Some(Self::Running),
            (Self::Stopping, Event::Started) => Some(Self::Stopping),
            (Self::Running, Event::Paused) => Some(Self::Paused),
            (Self::Starting, Event::Renewed) => None,
            (_, Event::Renewed) => Some(Self::Restarting),
            (Self::Running | Self::Paused, Event::Started)
            | (Self::Starting | Self::Paused | Self::Stopping | Self::Restarting, Event::Paused)
            | (Self::Starting | Self::Running | Self::Stopping | Self::Restarting, Event::Resumed) => None,
        }
    }

    /// Whether a process owns the VM in this phase.
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Created | Self::Exited)
    }

    /// Returns podman's word for it.
    pub fn podman(self) -> &'static str {
        match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.podman())
    }
}

/// How one life of a VM ended: one machine with its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// The container ended with this code, or its machine was lost.
    Exited(u8),
    /// The container rebooted its world.
    Rebooted,
}

/// What was asked of a VM before its life ended. The last word counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: what happened is the container's own doing.
    #[default]
    Nothing,
    /// To end.
    Stop,
    /// To begin anew.
    Restart,
}

/// What follows a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the VM ends.
    End,
    /// Another life, at once, because someone wants it.
    Renew,
    /// Another life after this pause, because the policy says so. It is counted.
    Retry(Duration),
}

/// The restarts by policy so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// All of them, since somebody started the VM.
    pub counted: u32,
    /// Those in a row whose life was short.
    pub in_a_row: u32,
}

impl Retries {
    /// The first pause, docker's, and the longest. Each short life doubles it.
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(60);
    /// A container that has run so long was well.
    const LONG: Duration = Duration::from_secs(10);

    /// Counts one more restart, after a life that took so long.
    pub fn after(self, life: Duration) -> Self {
        let in_a_row = if life < Self::LONG { self.in_a_row.saturating_add(1) } else { 1 };
        Self { counted: self.counted.saturating_add(1), in_a_row }
    }

    /// How long the next restart waits, if the life before it took so long.
    fn pause(self, life: Duration) -> Duration {
        let doublings = if life < Self::LONG { self.in_a_row } else { 0 };
        Self::FIRST.saturating_mul(1 << doublings.min(16)).min(Self::LONGEST)
    }
}

/// Says what follows when a life has ended that took so long.
///
/// ```text
///                 asked:  nothing                         stop   restart
///   rebooted              renew                           end    renew
///   exited 0              always, unless-stopped: retry   end    renew
///   exited, another code  and on-failure: retry           end    renew
///   policy no, or tries used up: end
/// ```
pub fn after(end: LifeEnd, asked: Asked, policy: RestartPolicy, retries: Retries, life: Duration) -> Next {
    let wants_more = |code| match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { most } => code != 0 && most.is_none_or(|most| retries.counted < most.get()),
    };
    match (asked, end) {
        (Asked::Stop, _) => Next::End,
        (Asked::Restart, _) | (Asked::Nothing, LifeEnd::Rebooted) => Next::Renew,
        (Asked::Nothing, LifeEnd::Exited(code)) if wants_more(code) => Next::Retry(retries.pause(life)),
        (Asked::Nothing, LifeEnd::Exited(_)) => Next::End,
    }
}

#[cfg(test)]
mod tests;
