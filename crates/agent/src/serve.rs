//! Answers what the host asks of a guest whose world stands.

use crate::changes::Layer;
use crate::container::{self, Container};
use crate::disk::Disks;
use crate::helper::Helpers;
use crate::pump::{Carried, Process};
use crate::reaper::Reaper;
use crate::volume::Volumes;
use crate::{census, cgroup, changes, copy, dial, exec, power, scratch, usage, user};
use anyhow::{Context, Result};
use fcvm_link::{Incoming, Opened, Stream};
use fcvm_proto::message::{Done, HostRequest, ProcessEvent, Time};
use fcvm_proto::plan;
use fcvm_proto::restore::Delta;
use serde::Serialize;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::sync::Notify;

/// What the tasks of the agent share, over all lives.
#[derive(Debug)]
pub(crate) struct Guest {
    reaper: Reaper,
    helpers: Helpers,
    volumes: Volumes,
    plan: RefCell<plan::Container>,
    container: RefCell<Option<Container>>,
    /// The scratch disk's device.
    scratch: String,
    disks: Disks,
    console: RefCell<Console>,
    freed: Notify,
}

/// Who has the streams of the container.
#[derive(Debug)]
enum Console {
    /// There is no container yet.
    Unstarted,
    /// A stream of the link carries them.
    Carried,
    /// The stream that carried them is gone: the next may have them.
    Free(Process),
    /// The container has ended, and that was said.
    Ended,
}

impl Guest {
    pub(crate) fn new(plan: plan::Container, scratch: String, disks: Disks, reaper: Reaper) -> Self {
        let console = Console::Unstarted.into();
        Self {
            reaper,
            helpers: Helpers::default(),
            volumes: Volumes::default(),
            plan: plan.into(),
            container: RefCell::default(),
            scratch,
            disks,
            console,
            freed: Notify::new(),
        }
    }

    /// Answers what the host opens, for one life.
    pub(crate) async fn serve(self: Rc<Self>, mut incoming: Incoming) {
        while let Some(opened) = incoming.accept().await {
            tokio::task::spawn_local(self.clone().answer(opened));
        }
    }

    /// Takes over what a new life says about the container.
    pub(crate) fn wake(&self, delta: &Delta) -> Result<()> {
        if let Some(plan) = &delta.container {
            self.plan.replace(plan.clone());
        }
        if let Some(container) = self.container.borrow_mut().as_mut() {
            container.rename(&delta.hostname).context("rename the container's host")?;
            container.give(&delta.env).context("write the variables that were given")?;
        }
        Ok(())
    }

    /// The number of the container's first process while it runs.
    pub(crate) fn container_pid(&self) -> Option<i32> {
        self.container.borrow().as_ref().map(|container| container.pid)
    }

    /// The numbers of the container's user, also where none runs yet.
    fn user(&self) -> (u32, u32) {
        if let Some(container) = self.container.borrow().as_ref() {
            return container.owner;
        }
        let identity = user::resolve(&copy::rootfs(), &self.plan.borrow().user);
        identity.map_or((0, 0), |identity| (identity.uid, identity.gid))
    }

    async fn answer(self: Rc<Self>, opened: Opened) {
        let request = opened.request::<HostRequest>();
        let stream = opened.stream;
        match request {
            Ok(HostRequest::Start) => self.start(stream).await,
            Ok(HostRequest::Attach) => self.attach(stream).await,
            Ok(HostRequest::Exec(request)) => {
                let container = self.container.borrow().clone();
                exec::serve(request, container.as_ref(), &self.helpers, &self.reaper, stream).await;
            }
            Ok(HostRequest::Usage) => reply(stream, &usage::measure()).await,
            Ok(HostRequest::Processes) => usage::answer_processes(self.container_pid(), stream).await,
            Ok(HostRequest::Changes) => changes::answer(Layer::of_container(), stream).await,
            Ok(HostRequest::ViewChanges { number }) => changes::answer(Layer::of_view(number), stream).await,
            Ok(HostRequest::Pack(request)) => copy::pack(request, self.container_pid(), stream).await,
            Ok(HostRequest::Unpack(request)) => {
                copy::unpack(request, (self.container_pid(), self.user()), stream).await;
            }
            Ok(HostRequest::Dial(request)) => dial::serve(request, stream).await,
            Ok(HostRequest::Kill { signal, all }) => {
                let done = match self.container.borrow().as_ref() {
                    Some(container) => {
                        container.signal(signal, all);
                        Done::Ok
                    }
                    None => Done::Failed("the container is not running".to_owned()),
                };
                reply(stream, &done).await;
            }
            Ok(HostRequest::Quiesce) => {
                // A clone's first command finds a helper that waits.
                self.helpers.refill().await;
                let written = tokio::task::spawn_blocking(rustix::fs::sync).await;
                let done = written.map_or_else(|error| Done::Failed(error.to_string()), |()| Done::Ok);
                reply(stream, &done).await;
            }
            Ok(HostRequest::Volume(volume)) => self.volumes.serve(volume, stream).await,
            Ok(HostRequest::Volumes) => reply(stream, &self.volumes.probe().await).await,
            Ok(HostRequest::Hold) => self.volumes.hold(stream).await,
            Ok(HostRequest::Limit { memory, cpu_milli }) => {
                let limited = match self.container_pid().and_then(cgroup::of) {
                    Some(dir) => cgroup::limit(&dir, memory, cpu_milli),
                    None => Err(anyhow::anyhow!("the container is not running")),
                };
                reply(stream, &done(limited)).await;
            }
            Ok(HostRequest::Freeze) => reply(stream, &self.freeze().await).await,
            Ok(HostRequest::Thaw) => reply(stream, &self.thaw().await).await,
            Ok(HostRequest::Grow { bytes }) => reply(stream, &done(scratch::grow(&self.scratch, bytes).await)).await,
            Ok(HostRequest::Census) => census::answer(self.container_pid(), stream).await,
            Ok(HostRequest::Clock { shift_ns }) => {
                // Whether it did is what the answer tells.
                let _ = fcvm_sys::guest::shift_clock(shift_ns);
                reply(stream, &Time { now_ns: crate::wake::now_ns() }).await;
            }
            Ok(HostRequest::PowerOff) => {
                // What volumes hold is written back meanwhile.
                let settled = tokio::task::spawn_blocking(power::settle).await.map_err(io::Error::from);
                let done = settled.flatten().map_or_else(|error| Done::Failed(error.to_string()), |()| Done::Ok);
                reply(stream, &done).await;
                power::off();
            }
            Err(error) => stream.reset(&format!("this agent does not know the request: {error}")),
        }
    }

    async fn start(&self, stream: Stream) {
        let (sender, receiver) = stream.split();
        if !matches!(*self.console.borrow(), Console::Unstarted) {
            return sender.reset("the container was started before");
        }
        if let Some(reason) = &self.disks.failure {
            let _ = sender.message(&ProcessEvent::Failed { code: 125, reason: reason.clone() }).await;
            return sender.finish();
        }
        self.console.replace(Console::Carried);
        let plan = self.plan.borrow().clone();
        let (container, process) = match container::start(&plan, &self.helpers, &self.reaper).await {
            Ok(started) => started,
            Err(refusal) => {
                self.console.replace(Console::Ended);
                let _ = sender.message(&ProcessEvent::Failed { code: refusal.code, reason: refusal.reason }).await;
                return sender.finish();
            }
        };
        *self.container.borrow_mut() = Some(container);
        self.carry(process, (sender, receiver)).await;
    }

    async fn attach(&self, stream: Stream) {
        let (sender, receiver) = stream.split();
        let process = loop {
            // The stream of the old life may not have noticed its end yet.
            let freed = self.freed.notified();
            match self.console.replace(Console::Carried) {
                Console::Free(process) => break process,
                Console::Carried => freed.await,
                other @ (Console::Unstarted | Console::Ended) => {
                    self.console.replace(other);
                    return sender.reset("no container runs in this machine");
                }
            }
        };
        self.carry(process, (sender, receiver)).await;
    }

    /// The places of all file systems that are written to.
    fn written(&self) -> Vec<PathBuf> {
        self.disks.writable.iter().cloned().chain([scratch::PLACE.into()]).collect()
    }

    async fn freeze(&self) -> Done {
        let frozen = settled(self.written(), fcvm_sys::guest::freeze).await;
        if frozen.is_err() {
            // Those that stand still go on; the others say that they do.
            self.thaw().await;
        }
        done(frozen.map_err(anyhow::Error::from))
    }

    async fn thaw(&self) -> Done {
        let thaw = |place: &Path| match fcvm_sys::guest::thaw(place) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            thawed => thawed,
        };
        done(settled(self.written(), thaw).await.map_err(anyhow::Error::from))
    }

    async fn carry(&self, process: Process, (sender, receiver): (fcvm_link::Sender, fcvm_link::Receiver)) {
        let started = sender.message(&ProcessEvent::Started { pid: process.pid() }).await;
        let carried = match started {
            Ok(()) => process.carry((sender, receiver)).await,
            Err(_) => Carried::Lost(process),
        };
        match carried {
            Carried::Lost(process) | Carried::Detached(process) => {
                self.console.replace(Console::Free(process));
                self.freed.notify_one();
            }
            Carried::ToItsEnd => {
                self.console.replace(Console::Ended);
                *self.container.borrow_mut() = None;
            }
        }
    }
}

/// Does something to file systems one after the other, which may take as long as their disks.
async fn settled(places: Vec<PathBuf>, act: fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let acted = tokio::task::spawn_blocking(move || places.iter().try_for_each(|place| act(place))).await;
    acted.map_err(io::Error::from).flatten()
}

fn done(result: Result<()>) -> Done {
    result.map_or_else(|error| Done::Failed(format!("{error:#}")), |()| Done::Ok)
}

/// Answers with one message and waits until the host has seen it.
async fn reply(stream: Stream, answer: &impl Serialize) {
    let (sender, mut receiver) = stream.split();
    if sender.message(answer).await.is_ok() {
        sender.finish();
        let _ = receiver.recv().await;
    }
}
