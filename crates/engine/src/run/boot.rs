//! The third phase: a machine whose guest has greeted and knows what it is.

use super::now_ns;
use super::prepare::Prepared;
use crate::{Engine, Error};
use fcvm_image::ImageLock;
use fcvm_link::{Incoming, Role, Session, greeting};
use fcvm_net::Published;
use fcvm_proto::message::{Hello, PROTOCOL, Verdict};
use fcvm_proto::plan::Plan;
use fcvm_store::{Monitor, OwnedVm, Owner};
use fcvm_vmm::{Access, Disk, Machine, MachineSpec, Origin, Probe};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A machine that listens.
#[derive(Debug)]
pub(super) struct Booted {
    pub(super) machine: Machine,
    pub(super) session: Session,
    pub(super) incoming: Incoming,
    pub(super) link: JoinHandle<()>,
    pub(super) ports: Published,
    pub(super) image: ImageLock,
}

/// How long a guest may take to greet. A loaded host with software emulation needs tens of seconds at worst.
const GREETING: Duration = Duration::from_secs(60);
/// A guest that hangs at boot is tried once more: timer calibration under emulation can fail by chance.
const ATTEMPTS: usize = 2;

impl Engine {
    pub(super) async fn boot(&self, vm: &mut OwnedVm, prepared: Prepared) -> Result<Booted, Error> {
        let spec = self.machine_spec(vm, &prepared)?;
        let mut failure = None;
        for attempt in 1..=ATTEMPTS {
            let mut machine = fcvm_vmm::boot(&spec, &self.settings().entrance()).await?;
            record_monitor(vm, &machine)?;
            match greet(&mut machine, &prepared.plan).await {
                Ok((session, incoming, link)) => {
                    let (ports, image) = (prepared.ports, prepared.image);
                    return Ok(Booted { machine, session, incoming, link, ports, image });
                }
                Err(reason) => {
                    tracing::warn!(attempt, reason, "the guest did not greet");
                    failure = Some(Error::NoGuest { reason, console: machine.console().tail() });
                    machine.kill().await;
                }
            }
        }
        Err(failure.expect("at least one attempt was made"))
    }

    fn machine_spec(&self, vm: &OwnedVm, prepared: &Prepared) -> Result<MachineSpec, Error> {
        let shape = &vm.record().spec.machine;
        let host = Probe::of_host(&self.settings().search_path);
        let choice = fcvm_vmm::choose(shape.vmm, shape.accel, &host)?;
        let run_dir = vm.dir().run_dir();
        std::fs::create_dir_all(&run_dir).map_err(|source| Error::RunDir { path: run_dir.clone(), source })?;
        let [system, image, scratch] = prepared.disks.clone();
        Ok(MachineSpec {
            choice,
            cpus: shape.cpus,
            memory: shape.memory,
            origin: Origin::Boot { kernel: prepared.kernel.clone(), initramfs: prepared.initramfs.clone() },
            disks: vec![
                Disk { path: system, access: Access::ReadOnly },
                Disk { path: image, access: Access::ReadOnly },
                Disk { path: scratch, access: Access::ReadWrite },
            ],
            run_dir,
        })
    }
}

fn record_monitor(vm: &mut OwnedVm, machine: &Machine) -> Result<(), Error> {
    let process = Owner::of(machine.pid()).unwrap_or(Owner { pid: machine.pid(), start_time: 0 });
    let choice = machine.choice();
    let monitor = Monitor {
        process,
        backend: choice.backend.to_string(),
        accel: choice.accel.to_string(),
        reason: choice.reason.clone(),
    };
    Ok(vm.update(|record| record.monitor = Some(monitor))?)
}

/// Hears the guest's `Hello` and tells it the plan; the reason in words if that fails.
async fn greet(machine: &mut Machine, plan: &Plan) -> Result<(Session, Incoming, JoinHandle<()>), String> {
    let link = machine.take_link().ok_or("its link was taken")?;
    let (mut reader, mut writer) = link.into_split();
    let mut refused = None;
    let greeted = greeting::host_greeting(&mut reader, &mut writer, |hello| {
        let verdict = verdict(hello, plan);
        if let Verdict::Refused { reason } = &verdict {
            refused = Some(reason.clone());
        }
        verdict
    });
    tokio::select! {
        greeted = tokio::time::timeout(GREETING, greeted) => match greeted {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("nothing was heard of it for {} s", GREETING.as_secs())),
        },
        exit = machine.wait() => return Err(format!("its monitor {exit}")),
    }
    if let Some(reason) = refused {
        return Err(reason);
    }
    let (session, incoming, driver) = fcvm_link::start(reader, writer, Role::Host);
    let driver = tokio::spawn(async move {
        let ended = driver.run().await;
        tracing::debug!(?ended, "the link ended");
    });
    Ok((session, incoming, driver))
}

fn verdict(hello: &Hello, plan: &Plan) -> Verdict {
    if hello.protocol != PROTOCOL {
        let reason =
            format!("the agent speaks protocol {}, this fcvm speaks {PROTOCOL}; run `fcvm setup`", hello.protocol);
        return Verdict::Refused { reason };
    }
    Verdict::Boot(Box::new(Plan { time_ns: now_ns(), ..plan.clone() }))
}
