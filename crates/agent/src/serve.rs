//! The agent's life on the link: greet, build the world, answer what the host asks, until it says power off.

use crate::container::{self, Container};
use crate::reaper::{self, Reaper};
use crate::{boot, dial, exec, power, pump, world};
use anyhow::{Context, Result, bail};
use fcvm_link::{Opened, Role, Stream, greeting};
use fcvm_proto::message::{Done, Hello, HostRequest, PROTOCOL, ProcessEvent, Verdict};
use fcvm_proto::plan::Plan;
use fcvm_sys::guest::Port;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::task::LocalSet;

/// What the tasks of the agent share.
#[derive(Debug)]
struct Guest {
    plan: Plan,
    reaper: Reaper,
    container: RefCell<Option<Container>>,
    started: Cell<bool>,
}

/// Serves the host until it says power off or is gone.
pub(crate) async fn serve() -> Result<()> {
    let deaths = reaper::deaths().context("watch for the deaths of children")?;
    let path = boot::link_port()?;
    let mut reader = Port::open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut writer = reader.clone();
    let hello = Hello {
        protocol: PROTOCOL,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned(),
        generation: 0,
    };
    let verdict = greeting::guest_greeting(&mut reader, &mut writer, &hello, &[]).await.context("greet the host")?;
    let plan = match verdict {
        Verdict::Boot(plan) => *plan,
        Verdict::Continue { .. } => bail!("the host takes a fresh guest for an old one"),
        Verdict::Refused { reason } => bail!("the host refuses this guest: {reason}"),
    };
    let way_out = world::build(&plan)?;
    let (session, mut incoming, driver) = fcvm_link::start(reader, writer, Role::Guest);
    let guest =
        Rc::new(Guest { plan, reaper: Reaper::default(), container: RefCell::default(), started: Cell::new(false) });
    let reaper = guest.reaper.clone();
    LocalSet::new()
        .run_until(async move {
            tokio::task::spawn_local(async move { reaper.run(deaths).await });
            tokio::task::spawn_local(driver.run());
            if let Some(interface) = way_out {
                tokio::task::spawn_local(interface.serve(session));
            }
            while let Some(opened) = incoming.accept().await {
                tokio::task::spawn_local(answer(guest.clone(), opened));
            }
        })
        .await;
    bail!("the host is gone")
}

async fn answer(guest: Rc<Guest>, opened: Opened) {
    let request = opened.request::<HostRequest>();
    let stream = opened.stream;
    match request {
        Ok(HostRequest::Start) => start(&guest, stream).await,
        Ok(HostRequest::Exec(request)) => {
            let container = guest.container.borrow().clone();
            exec::serve(request, container.as_ref(), &guest.reaper, stream).await;
        }
        Ok(HostRequest::Dial(request)) => dial::serve(request, stream).await,
        Ok(HostRequest::Kill { signal, all }) => {
            let done = match guest.container.borrow().as_ref() {
                Some(container) => {
                    container.signal(signal, all);
                    Done::Ok
                }
                None => Done::Failed("the container is not running".to_owned()),
            };
            reply(stream, &done).await;
        }
        Ok(HostRequest::PowerOff) => {
            let done = power::settle().map_or_else(|error| Done::Failed(error.to_string()), |()| Done::Ok);
            reply(stream, &done).await;
            power::off();
        }
        Err(error) => stream.reset(&format!("this agent does not know the request: {error}")),
    }
}

async fn start(guest: &Guest, stream: Stream) {
    let (sender, receiver) = stream.split();
    if guest.started.replace(true) {
        return sender.reset("the container was started before");
    }
    let (container, pipes) = match container::start(&guest.plan.container, &guest.reaper).await {
        Ok(started) => started,
        Err(refusal) => {
            let _ = sender.message(&ProcessEvent::Failed { code: refusal.code, reason: refusal.reason }).await;
            return sender.finish();
        }
    };
    let pid = container.pid;
    let ended = guest.reaper.ended(pid);
    *guest.container.borrow_mut() = Some(container);
    if sender.message(&ProcessEvent::Started { pid }).await.is_ok() {
        let _ = pump::carry(pid, pipes, ended, (sender, receiver)).await;
    }
    *guest.container.borrow_mut() = None;
}

/// Answers with one message and waits until the host has seen it.
async fn reply(stream: Stream, done: &Done) {
    let (sender, mut receiver) = stream.split();
    if sender.message(done).await.is_ok() {
        sender.finish();
        let _ = receiver.recv().await;
    }
}
