//! Use cases on a VM that another process owns (or none): exec, stop, kill, wait, remove.

use crate::control::{Client, Command, Waited, refused};
use crate::run::{piece, pump_input};
use crate::{Attachment, Engine, Error, disks};
use fcvm_link::{Lane, Receiver};
use fcvm_proto::message::{Done, Exec, ProcessEvent};
use fcvm_spec::{Limits, Phase, Signal, VmId, VmName};
use fcvm_store::log::Source;
use fcvm_store::{HealthRecord, HealthStatus, OwnedVm, VmDir, Watch, What};
use std::sync::Arc;
use std::time::Duration;

/// How a command in a VM ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// It ran and ended with this code; 128+N for a signal.
    Exited(u8),
    /// It could not be started.
    Failed {
        /// 126 cannot execute, 127 not found, 125 anything else.
        code: u8,
        /// Why.
        reason: String,
    },
    /// Nobody reads its output any more.
    Unread,
    /// It was left alone, and goes on.
    Detached,
}

/// What a VM that runs is waited for to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Its container runs.
    Running,
    /// This is said of its health.
    Health(HealthStatus),
}

/// Which VMs `remove` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remove {
    /// Ended ones only.
    IfEnded,
    /// Running ones too, after stopping them with this time-out.
    Force(Duration),
}

impl Engine {
    /// Runs a command in a running VM. No signals are passed on: a caller that is gone ends its command, and podman's
    /// client does not pass them on either.
    pub async fn exec(&self, vm: &str, exec: Exec, attachment: Attachment) -> Result<ExecOutcome, Error> {
        let dir = self.store().find_vm(vm)?;
        let client = connect(&dir, vm).await?;
        let (sender, receiver) = client.open(&Command::Exec(exec))?.split();
        let Attachment { input, output, signals: _ } = attachment;
        let input = tokio::spawn(pump_input(Arc::new(sender), input));
        let outcome = follow(receiver, output).await;
        input.abort();
        outcome
    }

    /// Ends a VM and returns when it has ended. A VM that has ended already is no error, as in podman.
    pub async fn stop(&self, vm: &str, timeout: Option<Duration>) -> Result<VmId, Error> {
        let dir = self.store().find_vm(vm)?;
        let timeout_s = timeout.map(seconds);
        if let Some(client) = owner_of(&dir, vm).await? {
            match done(client.ask(&Command::Stop { timeout_s }).await) {
                // It has ended meanwhile.
                Ok(()) | Err(Error::Lost) => {}
                Err(error) => return Err(error),
            }
            drop(client);
            until_free(&dir).await?;
        }
        Ok(dir.id().clone())
    }

    /// Lets a running VM's container end and start again in another machine; returns when it runs.
    pub async fn restart(&self, vm: &str, timeout: Option<Duration>) -> Result<VmId, Error> {
        self.have(vm, &Command::Restart { timeout_s: timeout.map(seconds) }).await
    }

    /// Lets a running VM's machine stand still.
    pub async fn pause(&self, vm: &str) -> Result<VmId, Error> {
        self.have(vm, &Command::Pause).await
    }

    /// Lets a paused VM's machine go on.
    pub async fn unpause(&self, vm: &str) -> Result<VmId, Error> {
        self.have(vm, &Command::Unpause).await
    }

    /// Has a VM's owner do something.
    async fn have(&self, vm: &str, command: &Command) -> Result<VmId, Error> {
        let dir = self.store().find_vm(vm)?;
        done(connect(&dir, vm).await?.ask(command).await)?;
        Ok(dir.id().clone())
    }

    /// Gives a VM another name, whether it runs or not.
    pub async fn rename(&self, vm: &str, name: VmName) -> Result<(), Error> {
        let dir = self.store().find_vm(vm)?;
        match client(&dir, vm).await? {
            Some(client) => done(client.ask(&Command::Rename(name)).await),
            None => change(&dir, |owned| Ok(owned.rename(name)?)),
        }
    }

    /// Changes what a VM's container may use: at once if it runs and its machine is large enough, else from its next start.
    pub async fn update(&self, vm: &str, limits: Limits) -> Result<VmId, Error> {
        let dir = self.store().find_vm(vm)?;
        match client(&dir, vm).await? {
            Some(client) => done(client.ask(&Command::Update(limits)).await)?,
            None => change(&dir, |owned| {
                // A disk that is not made yet is made as large.
                if let Some(size) = limits.rootfs_size.filter(|_| dir.scratch_disk().exists()) {
                    disks::grow(&dir.scratch_disk(), size)?;
                }
                owned.update(|record| limits.shape(&mut record.spec))?;
                owned.note(What::Update);
                Ok(())
            })?,
        }
        Ok(dir.id().clone())
    }

    /// Sends a signal to a VM's container.
    pub async fn kill(&self, vm: &str, signal: Signal, all: bool) -> Result<VmId, Error> {
        let dir = self.store().find_vm(vm)?;
        let client = connect(&dir, vm).await?;
        done(client.ask(&Command::Kill { signal: signal.number(), all }).await)?;
        self.store().note(&dir.record()?, What::Kill { signal: signal.number() });
        Ok(dir.id().clone())
    }

    /// Asks once whether a VM's container is well; none where nothing says how that is told.
    pub async fn check_health(&self, vm: &str) -> Result<Option<HealthRecord>, Error> {
        let dir = self.store().find_vm(vm)?;
        connect(&dir, vm).await?.ask(&Command::Check).await
    }

    /// Waits until a VM's container has ended, and returns its exit code.
    pub async fn wait(&self, vm: &str) -> Result<u8, Error> {
        let dir = self.store().find_vm(vm)?;
        if let Some(client) = owner_of(&dir, vm).await? {
            match client.ask::<Waited>(&Command::Wait).await {
                Ok(waited) => {
                    until_free(&dir).await?;
                    return Ok(waited.code);
                }
                // Its owner was killed; what it left is swept and recorded below.
                Err(Error::Lost) => {
                    until_free(&dir).await?;
                    self.store().sweep()?;
                }
                Err(error) => return Err(error),
            }
        }
        let ended = dir.record()?.ended;
        ended.map(|ended| ended.code).ok_or_else(|| Error::NotRunning(vm.to_owned()))
    }

    /// Waits until a VM that has not ended is like this.
    pub async fn wait_for(&self, vm: &str, wanted: WaitFor) -> Result<(), Error> {
        // As podman's: nobody tells when a record changes.
        const PAUSE: Duration = Duration::from_millis(50);
        let dir = self.store().find_vm(vm)?;
        loop {
            let record = dir.record()?;
            let is_there = match wanted {
                WaitFor::Running => record.phase == Phase::Running,
                WaitFor::Health(status) => record.health.is_some_and(|health| health.status == status),
            };
            if is_there && record.ended.is_none() {
                return Ok(());
            }
            if record.ended.is_some() || !dir.is_owned() {
                return Err(Error::NotRunning(vm.to_owned()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Removes a VM and all that it left.
    pub async fn remove(&self, vm: &str, how: Remove) -> Result<VmId, Error> {
        let dir = self.store().find_vm(vm)?;
        let id = dir.id().clone();
        if dir.is_owned() {
            let Remove::Force(timeout) = how else { return Err(Error::Running(vm.to_owned())) };
            match self.stop(vm, Some(timeout)).await {
                Ok(_) | Err(Error::Store(fcvm_store::Error::NoSuchVm(_))) => {}
                Err(error) => return Err(error),
            }
        }
        dir.remove()?;
        Ok(id)
    }
}

/// Changes a VM that nobody owns.
fn change(dir: &VmDir, act: impl FnOnce(&mut OwnedVm) -> Result<(), Error>) -> Result<(), Error> {
    let mut owned = dir.take()?;
    let changed = act(&mut owned);
    owned.retire()?;
    changed
}

fn seconds(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)
}

/// Carries a command's output until its last word.
pub(crate) async fn follow(
    mut receiver: Receiver,
    output: Option<tokio::sync::mpsc::Sender<crate::Output>>,
) -> Result<ExecOutcome, Error> {
    loop {
        let item = receiver.recv().await.map_err(refused)?.ok_or(Error::Lost)?;
        let source = match item.lane {
            Lane::Data => Source::Stdout,
            Lane::Error => Source::Stderr,
            Lane::Message => match item.message() {
                Ok(ProcessEvent::Started { .. } | ProcessEvent::OutOfMemory) => continue,
                Ok(ProcessEvent::Exited(exit)) => return Ok(ExecOutcome::Exited(exit.code())),
                Ok(ProcessEvent::Failed { code, reason }) => return Ok(ExecOutcome::Failed { code, reason }),
                Ok(ProcessEvent::Detached) => return Ok(ExecOutcome::Detached),
                Err(error) => return Err(Error::Refused(format!("the guest sent nonsense: {error}"))),
            },
        };
        if let Some(output) = &output
            && output.send(piece(source, item.bytes)).await.is_err()
        {
            return Ok(ExecOutcome::Unread);
        }
    }
}

async fn client(dir: &VmDir, vm: &str) -> Result<Option<Client>, Error> {
    Client::connect(dir).await.map_err(|source| Error::Control { vm: vm.to_owned(), source })
}

/// Reaches a VM's owner, also one that does not answer yet. None: nobody owns it.
async fn owner_of(dir: &VmDir, vm: &str) -> Result<Option<Client>, Error> {
    /// The end of an owner that is killed is seen by nothing but a look.
    const LOOK: Duration = Duration::from_millis(100);
    while let Ok(watch) = Watch::on(dir.path()) {
        match client(dir, vm).await? {
            None if dir.is_owned() => {}
            reached => return Ok(reached),
        }
        let waited = tokio::task::spawn_blocking(move || watch.wait(Some(LOOK))).await;
        waited.expect("waiting for a change does not panic")?;
    }
    // Its directory is gone.
    Ok(None)
}

pub(crate) async fn connect(dir: &VmDir, vm: &str) -> Result<Client, Error> {
    client(dir, vm).await?.ok_or_else(|| Error::NotRunning(vm.to_owned()))
}

pub(crate) fn done(answer: Result<Done, Error>) -> Result<(), Error> {
    match answer? {
        Done::Ok => Ok(()),
        Done::Failed(reason) => Err(Error::Refused(reason)),
    }
}

/// Waits for the owner's lock on a thread of its own, since the wait is the kernel's.
pub(crate) async fn until_free(dir: &VmDir) -> Result<(), Error> {
    let dir = dir.clone();
    let waited = tokio::task::spawn_blocking(move || dir.wait_until_free()).await;
    Ok(waited.expect("waiting for a lock does not panic")?)
}
