//! Volumes: file systems whose requests travel to the host, where a file server answers them.
//!
//! A volume is mounted once and stays so. Its requests flow over a stream of the link, one in each life of the machine;
//! between two lives programs wait. Where the host's server is gone they do not: what was asked and is not answered has
//! failed, as does all else until the host serves the volume again. Nothing is ever asked twice.
//!
//! The agent's own thread carries the answers, so nothing on it may wait for a volume: neither for a file of it nor for
//! anybody who waits for one. Hence files of the container are touched, programs started ([`crate::command`]), streams of
//! processes carried ([`crate::pump`]) and processes looked at by other threads.
//!
//! What changes on the host raises events in the guest ([`events`]): the agent asks for them among the kernel's requests,
//! a thread raises them, and some of the requests that this takes are answered here.

mod events;
mod raise;
mod requests;

use events::Events;
use fcvm_link::{Lane, Receiver, Sender, Stream, StreamError};
use fcvm_proto::events::ASK;
use fcvm_proto::message::{Done, Volume, VolumeRoot};
use fcvm_sys::guest::{FuseDevice, LONGEST_REQUEST};
use requests::{ANSWER_HEADER, REQUEST_HEADER, Treatment, long};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, OpenTreeFlags, mount, mount_remount, open_tree};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::sync::{Mutex, Notify};

/// Where volumes are mounted, each at its number.
pub(crate) const DIR: &str = "/run/fcvm/volumes";

/// How much the kernel reads ahead of a program, in KiB: as much as one request carries.
const READ_AHEAD_KIB: &str = "1024";

/// The longest answer: a request's data, and a page.
const LONGEST_ANSWER: usize = LONGEST_REQUEST;
/// Requests that nobody answers: FORGET, INTERRUPT, BATCH_FORGET (`fuse_opcode`).
const UNANSWERED: [u32; 3] = [2, 36, 42];

/// All volumes of the guest.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    mounted: RefCell<BTreeMap<u32, Rc<Mounted>>>,
    /// One request is received at a time, and taken out at once.
    room: RefCell<Vec<u8>>,
    gate: Gate,
}

/// One volume.
#[derive(Debug)]
struct Mounted {
    place: PathBuf,
    device: FuseDevice,
    events: Events,
    /// What was asked and is not answered yet, by its number.
    waiting: RefCell<HashSet<u64>>,
    /// A request is on its way into the stream.
    sending: Cell<bool>,
    /// Held by the stream that carries it.
    carried: Mutex<()>,
    /// Streams that carry it or wait to.
    carriers: Cell<usize>,
}

/// Whether requests are begun.
#[derive(Debug, Default)]
struct Gate {
    holds: Cell<usize>,
    /// It was opened or closed, or a request was answered.
    changed: Notify,
}

impl Volumes {
    /// Mounts a volume if it is not, and carries its requests until the stream is over.
    pub(crate) async fn serve(&self, volume: Volume, stream: Stream) {
        let (sender, receiver) = stream.split();
        let mounted = self.mount(&volume);
        let done = mounted.as_ref().map_or_else(|error| Done::Failed(error.to_string()), |_| Done::Ok);
        let Ok(mounted) = mounted else {
            let _host_is_gone = sender.message(&done).await;
            return sender.finish();
        };
        mounted.carriers.update(|carriers| carriers + 1);
        self.gate.changed.notify_waiters();
        // That of an older life may not have noticed its end yet.
        let carried = mounted.carried.lock().await;
        mounted.events.begin();
        let mut ended = sender.message(&done).await;
        if ended.is_ok() {
            ended = tokio::select! {
                ended = self.carry_requests(&mounted, &sender) => ended,
                ended = carry_answers(&mounted, receiver, &self.gate) => ended,
            };
        }
        mounted.give_up();
        mounted.carriers.update(|carriers| carriers - 1);
        self.gate.changed.notify_waiters();
        if !matches!(ended, Err(StreamError::Ended(_))) {
            self.refuse_requests(&mounted).await;
        }
        drop(carried);
    }

    /// Fails what is asked until another stream carries the volume.
    async fn refuse_requests(&self, mounted: &Mounted) {
        let refuse = async {
            while let Ok(request) = mounted.device.receive(&self.room).await {
                if let Some((_, unique)) = head(&request).filter(|(opcode, _)| !UNANSWERED.contains(opcode)) {
                    mounted.refuse(unique);
                }
            }
        };
        tokio::select! {
            biased;
            () = self.gate.until(|| mounted.carriers.get() > 0) => {}
            () = refuse => {}
        }
    }

    /// Looks whether every volume answers, and lets the kernel read as far ahead as one request carries.
    pub(crate) async fn probe(&self) -> Done {
        let places: Vec<PathBuf> = self.mounted.borrow().values().map(|mounted| mounted.place.clone()).collect();
        let look = move || places.iter().try_for_each(|place| probe(place));
        match tokio::task::spawn_blocking(look).await.map_err(io::Error::from).flatten() {
            Ok(()) => Done::Ok,
            Err(error) => Done::Failed(error.to_string()),
        }
    }

    /// Begins no further request until the stream is over, and says when none is left.
    pub(crate) async fn hold(&self, stream: Stream) {
        let (sender, mut receiver) = stream.split();
        let _hold = self.gate.hold();
        tokio::select! {
            () = self.at_rest() => {}
            () = sender.closed() => return,
        }
        if sender.message(&Done::Ok).await.is_ok() {
            let _released = receiver.recv().await;
        }
        sender.finish();
    }

    async fn at_rest(&self) {
        let is_at_rest = || self.mounted.borrow().values().all(|mounted| mounted.is_at_rest());
        self.gate.until(is_at_rest).await;
    }

    fn mount(&self, volume: &Volume) -> io::Result<Rc<Mounted>> {
        if let Some(mounted) = self.mounted.borrow().get(&volume.number) {
            return Ok(mounted.clone());
        }
        self.room.borrow_mut().resize(LONGEST_REQUEST, 0);
        let mounted = Rc::new(Mounted::new(volume)?);
        self.mounted.borrow_mut().insert(volume.number, mounted.clone());
        Ok(mounted)
    }

    async fn carry_requests(&self, mounted: &Mounted, sender: &Sender) -> Result<(), StreamError> {
        loop {
            self.gate.until(|| self.gate.holds.get() == 0).await;
            let message = tokio::select! {
                biased;
                () = self.gate.until(|| self.gate.holds.get() > 0) => continue,
                own = mounted.events.outgoing() => Some(own),
                request = mounted.device.receive(&self.room) => match request {
                    Ok(request) => mounted.treat(request),
                    // It was unmounted: nothing comes any more.
                    Err(_) => return Ok(()),
                },
            };
            let Some(message) = message else { continue };
            mounted.sending.set(true);
            sender.send(Lane::Data, message.into()).await?;
            mounted.sending.set(false);
            self.gate.changed.notify_waiters();
        }
    }
}

impl Mounted {
    fn new(volume: &Volume) -> io::Result<Self> {
        let place = Path::new(DIR).join(volume.number.to_string());
        let mode = match volume.root {
            VolumeRoot::Directory => {
                fs::create_dir_all(&place)?;
                "40000"
            }
            VolumeRoot::File => {
                fs::File::create(&place)?;
                "100000"
            }
        };
        let device = FuseDevice::mounted(|number| {
            let options = format!(
                "fd={number},rootmode={mode},user_id=0,group_id=0,allow_other,default_permissions,max_read=1048576"
            );
            Ok(mount("volume", &place, "fuse", MountFlags::empty(), Some(CString::new(options)?.as_c_str()))?)
        })?;
        // Events are raised by calls that write, also where nobody else may; nothing is ever written by them.
        let tree = open_tree(CWD, &place, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
        if volume.read_only {
            mount_remount(&place, MountFlags::BIND | MountFlags::RDONLY, "")?;
        }
        Ok(Self {
            place,
            device,
            events: Events::new(tree.ok()),
            waiting: RefCell::default(),
            sending: Cell::new(false),
            carried: Mutex::new(()),
            carriers: Cell::new(0),
        })
    }

    /// Answers a request of the kernel, or returns what the host is asked.
    fn treat(&self, request: Vec<u8>) -> Option<Vec<u8>> {
        let request = match self.events.treat(request) {
            Treatment::Carry(request) => request,
            Treatment::Answer(answer) => {
                self.tell(&answer);
                return None;
            }
            Treatment::Nothing => return None,
        };
        let (opcode, unique) = head(&request)?;
        if !UNANSWERED.contains(&opcode) {
            self.waiting.borrow_mut().insert(unique);
        }
        Some(request)
    }

    fn is_at_rest(&self) -> bool {
        self.waiting.borrow().is_empty() && !self.sending.get()
    }

    /// Fails what was asked and will not be answered.
    fn give_up(&self) {
        self.sending.set(false);
        self.events.give_up();
        for unique in self.waiting.take() {
            self.refuse(unique);
        }
    }

    fn refuse(&self, unique: u64) {
        let error = -Errno::IO.raw_os_error();
        let answer = [&(ANSWER_HEADER as u32).to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes()];
        let _nobody_asks_any_more = self.device.answer(&answer.concat());
    }

    /// What is no answer to anything is a mistake; the file system goes on without it.
    fn tell(&self, answer: &[u8]) {
        if let Err(error) = self.device.answer(answer) {
            eprintln!("fcvm-agent: an answer of a volume was of no use: {error}");
        }
    }
}

async fn carry_answers(mounted: &Mounted, mut receiver: Receiver, gate: &Gate) -> Result<(), StreamError> {
    let mut arrived = Vec::new();
    while let Some(item) = receiver.recv().await? {
        arrived.extend_from_slice(&item.bytes);
        let mut begun = 0;
        while let Some(length) = answer_length(&arrived[begun..]) {
            let Some(answer) = arrived.get(begun..begun + length) else { break };
            match long(answer, 8) {
                ASK => mounted.events.take(answer),
                unique => {
                    mounted.tell(&mounted.events.settle(answer));
                    mounted.waiting.borrow_mut().remove(&unique);
                }
            }
            begun += length;
        }
        arrived.drain(..begun);
        gate.changed.notify_waiters();
        if arrived.len() > LONGEST_ANSWER {
            return Ok(());
        }
    }
    Ok(())
}

impl Gate {
    fn hold(&self) -> impl Drop + '_ {
        struct Hold<'g>(&'g Gate);
        impl Drop for Hold<'_> {
            fn drop(&mut self) {
                self.0.holds.update(|holds| holds - 1);
                self.0.changed.notify_waiters();
            }
        }
        self.holds.update(|holds| holds + 1);
        self.changed.notify_waiters();
        Hold(self)
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition() {
                return;
            }
            changed.await;
        }
    }
}

fn probe(place: &Path) -> io::Result<()> {
    rustix::fs::statfs(place)?;
    let device = fs::metadata(place)?.st_dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    // Without it reads are slower, and that is all.
    let _ = fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), READ_AHEAD_KIB);
    Ok(())
}

/// What a request is about, and its number.
fn head(request: &[u8]) -> Option<(u32, u64)> {
    let opcode = u32::from_ne_bytes(*request.get(4..REQUEST_HEADER)?.first_chunk()?);
    Some((opcode, long(request, 8)))
}

/// The length of the answer that these bytes begin, once so much of it is there.
fn answer_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    (bytes.len() >= ANSWER_HEADER).then_some(length.max(ANSWER_HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_own_lengths() {
        let request = [&48_u32.to_ne_bytes()[..], &2_u32.to_ne_bytes(), &7_u64.to_ne_bytes(), &[0; 32]].concat();
        assert_eq!(head(&request), Some((2, 7)));
        assert_eq!(head(&request[..39]), None);
        let answer = [&20_u32.to_ne_bytes()[..], &[0; 16]].concat();
        assert_eq!(answer_length(&answer), Some(20));
        assert_eq!(answer_length(&answer[..15]), None);
        // One that is too short for its own header cannot hold up the others.
        assert_eq!(answer_length(&[0; 16]), Some(ANSWER_HEADER));
    }

    #[tokio::test]
    async fn a_gate_is_open_again_when_its_last_hold_is_gone() {
        let gate = Gate::default();
        let (first, second) = (gate.hold(), gate.hold());
        drop(first);
        assert_eq!(gate.holds.get(), 1);
        let opened = gate.until(|| gate.holds.get() == 0);
        tokio::pin!(opened);
        let closed = tokio::select! { biased; () = &mut opened => false, () = std::future::ready(()) => true };
        assert!(closed);
        drop(second);
        opened.await;
    }
}
