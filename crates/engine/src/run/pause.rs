//! A machine that stands still for a while because somebody wants it to.
//!
//! Nothing is asked of it meanwhile, so its health is not judged either. Connections to its ports queue.

use super::advance;
use super::life::Life;
use super::lives::Lives;
use crate::{Error, clock};
use fcvm_spec::Phase;
use fcvm_spec::lifecycle::Event;
use fcvm_store::{OwnedVm, What};
use std::time::Duration;

/// How long a guest that goes on may take to say its time.
const PATIENCE: Duration = Duration::from_secs(10);

impl Life {
    /// Lets the machine stand still.
    pub(super) async fn pause(&mut self, vm: &mut OwnedVm, lives: &Lives<'_>) -> Result<(), Error> {
        expect(vm, Phase::Running)?;
        lives.control.pause();
        self.watch_off();
        if let Err(error) = self.machine.pause().await {
            self.go_on(vm, lives);
            return Err(error.into());
        }
        vm.update(|record| advance(record, Event::Paused))?;
        vm.note(What::Pause);
        Ok(())
    }

    /// Lets it go on.
    pub(super) async fn unpause(&mut self, vm: &mut OwnedVm, lives: &Lives<'_>) -> Result<(), Error> {
        expect(vm, Phase::Paused)?;
        self.machine.resume().await?;
        // Its clock has stood still too. That it cannot be set is no reason to leave it standing.
        let set = tokio::time::timeout(PATIENCE, clock::set(self.link.session())).await;
        if !matches!(set, Ok(Ok(_))) {
            tracing::warn!(vm = %vm.record().spec.name, "the clock of a machine that goes on was not set");
        }
        vm.update(|record| advance(record, Event::Resumed))?;
        self.go_on(vm, lives);
        vm.note(What::Unpause);
        Ok(())
    }

    fn go_on(&mut self, vm: &OwnedVm, lives: &Lives<'_>) {
        lives.control.open(self.link.session().clone());
        self.watch_on(&vm.record().spec);
    }
}

fn expect(vm: &OwnedVm, phase: Phase) -> Result<(), Error> {
    let record = vm.record();
    match record.phase == phase {
        true => Ok(()),
        false => Err(Error::OtherPhase { vm: record.spec.name.to_string(), is: record.phase, expected: phase }),
    }
}
