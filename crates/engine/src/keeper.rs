//! Who answers for the files of a VM: its owner while it runs; else a machine that is started for nothing but that.

use crate::control::{Client, Command};
use crate::run::Errand;
use crate::{Engine, Error};
use fcvm_link::Stream;
use fcvm_proto::files::{Pack, Tree, Unpack};
use fcvm_proto::message::HostRequest;
use fcvm_spec::{VmId, VmSpec};
use std::collections::BTreeMap;

/// One of the two.
#[derive(Debug)]
pub(crate) enum Keeper {
    Owner(Client),
    Errand(Box<Errand>),
}

/// Those of all VMs that one use case has to do with.
#[derive(Debug, Default)]
pub(crate) struct Keepers(BTreeMap<VmId, Keeper>);

impl Keepers {
    /// Finds out who it is for these VMs; two names may be one VM's.
    pub(crate) async fn of(engine: &Engine, vms: &[&str]) -> Result<Self, Error> {
        let mut all = Self::default();
        for vm in vms {
            let found = all.add(engine, vm).await;
            if let Err(error) = found {
                all.end().await?;
                return Err(error);
            }
        }
        Ok(all)
    }

    async fn add(&mut self, engine: &Engine, vm: &str) -> Result<(), Error> {
        let dir = engine.store().find_vm(vm)?;
        if self.0.contains_key(dir.id()) {
            return Ok(());
        }
        let control = |source| Error::Control { vm: vm.to_owned(), source };
        let keeper = match Client::connect(&dir).await.map_err(control)? {
            Some(client) => Keeper::Owner(client),
            None => Keeper::Errand(Box::new(engine.errand(&dir).await?)),
        };
        self.0.insert(dir.id().clone(), keeper);
        Ok(())
    }

    /// The one of a VM.
    pub(crate) fn keeper(&self, engine: &Engine, vm: &str) -> Result<&Keeper, Error> {
        let id = engine.store().find_vm(vm)?.id().clone();
        self.0.get(&id).ok_or_else(|| Error::NotRunning(vm.to_owned()))
    }

    /// Ends the machines that were started. All are ended, also when one of them cannot be in good order.
    pub(crate) async fn end(self) -> Result<(), Error> {
        let mut first = Ok(());
        for keeper in self.0.into_values() {
            if let Keeper::Errand(errand) = keeper {
                first = first.and(errand.end().await);
            }
        }
        first
    }
}

impl Keeper {
    /// Asks for files.
    pub(crate) fn pack(&self, request: Pack) -> Result<Stream, Error> {
        match self {
            Self::Owner(client) => client.open(&Command::Pack(request)),
            Self::Errand(errand) => {
                if request.tree == Tree::Container {
                    is_there(&request.path, &errand.record().spec)?;
                }
                errand.session().open(&HostRequest::Pack(request)).map_err(|_| Error::Lost)
            }
        }
    }

    /// Gives files.
    pub(crate) fn unpack(&self, request: Unpack) -> Result<Stream, Error> {
        match self {
            Self::Owner(client) => client.open(&Command::Unpack(request)),
            Self::Errand(errand) => {
                is_there(&request.path, &errand.record().spec)?;
                errand.session().open(&HostRequest::Unpack(request)).map_err(|_| Error::Lost)
            }
        }
    }
}

/// What is mounted in a container is not there without it.
fn is_there(path: &str, spec: &VmSpec) -> Result<(), Error> {
    let container = &spec.container;
    let volumes = container.volumes.iter().map(|volume| &volume.target);
    let targets = volumes.chain(container.tmpfs.iter().map(|tmpfs| &tmpfs.path));
    let mut targets = targets.chain(spec.machine.disks.iter().map(|disk| &disk.target));
    let parts = parts(path);
    match targets.find(|target| parts.starts_with(&self::parts(target))) {
        Some(target) => Err(Error::NotThere { path: path.to_owned(), target: target.clone() }),
        None => Ok(()),
    }
}

/// The names of a path, as far as can be told without its links.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_place_are_the_same() {
        assert_eq!(parts("/a/./b/../c/"), parts("a/c"));
        assert!(parts("/data/x").starts_with(&parts("/data/")) && !parts("/database").starts_with(&parts("/data")));
    }
}
