//! The lives of a VM: one machine after the other, with one owner, one name, one disk and the same ports.
//!
//! ```text
//! first ─► drive ─► what follows? ─┬► end
//!            ▲                     ├► at once: asked for, or the container rebooted
//!            │                     └► after a pause: its policy
//!            └──── renew ◄─────────┘
//! ```
//! What follows is decided by [`lifecycle::after`] alone.

use super::boot::Booted;
use super::over::Over;
use super::{Attendance, Origin, RunObserver, RunOutcome, RunRequest, advance};
use crate::control::{Ask, Control};
use crate::error::in_full;
use crate::{Attachment, Engine, Error};
use fcvm_net::Published;
use fcvm_proto::message::Done;
use fcvm_spec::lifecycle::{self, Asked, Event, LifeEnd, Next, Retries};
use fcvm_spec::{RestartPolicy, Signal};
use fcvm_store::{FailPoint, OwnedVm, VmRecord, What};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// What stays while one life of a VM follows another: who is told of it, and who may ask.
pub(super) struct Lives<'a> {
    pub(super) attachment: &'a mut Attachment,
    pub(super) control: Control,
    /// Is told once.
    observer: Option<&'a dyn RunObserver>,
    /// Those who asked for a restart are told when the container runs again.
    pub(super) restarters: Vec<oneshot::Sender<Done>>,
    retries: Retries,
    /// When the container began to run, if it did.
    began: Option<Instant>,
    /// What the owner's own input is carried by; it ends with this.
    _feeding: JoinSet<()>,
}

/// What comes while there is no container.
enum Interruption {
    Stop,
    Signal(Signal),
    Restart,
}

impl Lives<'_> {
    /// Tells everybody that the container runs.
    pub(super) fn announce(&mut self, record: &VmRecord) {
        self.began = Some(Instant::now());
        if let Some(observer) = self.observer.take() {
            observer.started(record);
        }
        self.tell_restarters(&Done::Ok);
    }

    fn tell_restarters(&mut self, done: &Done) {
        for restarter in self.restarters.drain(..) {
            let _asker_is_gone = restarter.send(done.clone());
        }
    }

    /// Decides what follows a life.
    pub(super) fn after(&mut self, end: LifeEnd, asked: Asked, policy: RestartPolicy) -> Next {
        let life = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        let next = lifecycle::after(end, asked, policy, self.retries, life);
        self.retries = match (next, asked) {
            (Next::Retry(_), _) => self.retries.after(life),
            (Next::Renew, Asked::Restart) => Retries::default(),
            _ => self.retries,
        };
        next
    }

    /// Goes on with what leads to a container until it runs, or somebody does not want it any more.
    pub(super) async fn unless_stopped<T>(
        &mut self,
        phases: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut phases = pin!(phases);
        loop {
            let interruption = tokio::select! {
                done = &mut phases => return done,
                interruption = self.interruption() => interruption,
            };
            match interruption {
                Interruption::Stop => return Err(Error::Stopped),
                Interruption::Signal(signal) => return Err(Error::Interrupted(signal)),
                // It is on its way.
                Interruption::Restart => {}
            }
        }
    }

    /// Waits between two lives; the next is not wanted any more if that fails.
    async fn rest(&mut self, pause: Duration) -> Result<(), Error> {
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            interruption = self.interruption() => match interruption {
                Interruption::Stop => Err(Error::Stopped),
                Interruption::Signal(signal) => Err(Error::Interrupted(signal)),
                Interruption::Restart => Ok(()),
            },
        }
    }

    async fn interruption(&mut self) -> Interruption {
        const NOT_YET: &str = "its container does not run now";
        loop {
            let asked = tokio::select! {
                Some(signal) = self.attachment.signals.recv() => {
                    // Others (SIGWINCH, SIGUSR1…) are for a container that is not there.
                    if ENDING.contains(&signal.number()) {
                        return Interruption::Signal(signal);
                    }
                    continue;
                }
                asked = self.control.ask() => asked,
            };
            match asked {
                Ask::Stop(_) => return Interruption::Stop,
                Ask::Restart(_, answer) => {
                    self.restarters.push(answer);
                    return Interruption::Restart;
                }
                other => other.refuse(NOT_YET),
            }
        }
    }
}

/// SIGHUP, SIGINT, SIGQUIT, SIGTERM.
const ENDING: [i32; 4] = [1, 2, 3, 15];

impl Engine {
    /// Lets a VM live until nothing follows.
    pub(super) async fn live(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        attachment: &mut Attachment,
        observer: &dyn RunObserver,
    ) -> Result<RunOutcome, Error> {
        let failed = |source| Error::Control { vm: request.spec.name.to_string(), source };
        let control = Control::start(vm.dir().path()).map_err(failed)?;
        self.reach(FailPoint::Control)?;
        observer.listening();
        let console = control.console().clone();
        let mut feeding = JoinSet::new();
        feeding.spawn(console.clone().feed(attachment.input.take()));
        let mut lives = Lives {
            attachment,
            control,
            observer: Some(observer),
            restarters: Vec::new(),
            retries: Retries::default(),
            began: None,
            _feeding: feeding,
        };
        let phases = async {
            let begun = self.first(vm, request, observer).await?;
            if matches!(request.attendance, Attendance::Client(_)) {
                console.attended().await;
            }
            Ok(begun)
        };
        let (booted, filling) = lives.unless_stopped(phases).await?;
        let ports = booted.ports.clone();
        let lived = self.drive(vm, booted, &mut lives).await;
        if let Some(filling) = filling {
            // It has logged what went wrong.
            let _: Result<(), JoinError> = filling.await;
        }
        let mut over = lived?;
        while over.next != Next::End {
            over = self.renew(vm, &ports, &mut lives, over).await?;
        }
        lives.control.ended(over.outcome.code);
        Ok(over.outcome)
    }

    /// The first machine, and what ends when it is in the cache.
    async fn first(
        &self,
        vm: &mut OwnedVm,
        request: &RunRequest,
        observer: &dyn RunObserver,
    ) -> Result<(Booted, Option<JoinHandle<()>>), Error> {
        let prepared = match &request.origin {
            Origin::Image => return self.begin(vm, request, observer).await,
            Origin::Snapshot { id, env, server } => self.prepare_clone(vm, request, (id, *server), env).await?,
            Origin::Own => self.prepare_again(vm, None).await?,
        };
        let booted = self.boot(vm, prepared).await?;
        if let Origin::Snapshot { id, .. } = &request.origin {
            vm.note(What::Clone { snapshot: id.clone() });
        }
        Ok((booted, None))
    }

    /// Lets another life follow one that is over. That nothing comes of it is an end like any other.
    async fn renew(
        &self,
        vm: &mut OwnedVm,
        ports: &Arc<Published>,
        lives: &mut Lives<'_>,
        before: Over,
    ) -> Result<Over, Error> {
        vm.update(|record| {
            advance(record, Event::Renewed);
            (record.monitor, record.health, record.restored) = (None, None, None);
            record.restarts = lives.retries.counted;
        })?;
        self.reach(FailPoint::Renewed)?;
        match self.live_again(vm, ports, lives, before.next).await {
            Err(Error::Stopped | Error::Interrupted(_)) => Ok(Over { next: Next::End, ..before }),
            Err(error) => {
                let outcome = RunOutcome::failed(&error);
                vm.note(What::Died { code: outcome.code });
                lives.tell_restarters(&Done::Failed(in_full(&error)));
                let next = lives.after(LifeEnd::Exited(outcome.code), Asked::Nothing, vm.record().spec.restart);
                Ok(Over { next, outcome })
            }
            over => over,
        }
    }

    async fn live_again(
        &self,
        vm: &mut OwnedVm,
        ports: &Arc<Published>,
        lives: &mut Lives<'_>,
        next: Next,
    ) -> Result<Over, Error> {
        if let Next::Retry(pause) = next {
            lives.rest(pause).await?;
        }
        let ports = Some(ports.clone());
        let phases = async {
            let prepared = self.prepare_again(vm, ports).await?;
            self.boot(vm, prepared).await
        };
        let booted = lives.unless_stopped(phases).await?;
        self.drive(vm, booted, lives).await
    }
}
