//! A guest that asks, and a host that changes files meanwhile: with the real inotify, and virtiofsd between the two.
//!
//! That something is not told is told by what is done after it and is.

use super::*;
use crate::channel::Channel;
use crate::control::{Cache, Events, Owners, Served, State};
use fcvm_proto::events::{Changes, Event, What, answered, ask};
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use tempfile::TempDir;

const FILE: u16 = 0o100_000;
const DIRECTORY: u16 = 0o040_000;

struct Guest<'d> {
    dir: &'d Path,
    channel: Channel,
    message: Message,
    socket: UnixStream,
    /// What was told at once.
    told: Vec<u8>,
    number: usize,
    ends: usize,
}

fn volume() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::write(dir.path().join("dir/file"), "file").unwrap();
    dir
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

impl<'d> Guest<'d> {
    fn new(dir: &'d Path, state: Option<State>) -> Self {
        let owners = if fcvm_sys::process::runs_as_root() { Owners::Asking } else { Owners::One };
        let root = dir.to_str().unwrap().to_owned();
        let (socket, ours) = UnixStream::pair().unwrap();
        let is_new = state.is_none();
        let served = Served { root, cache: Cache::Auto, owners, events: Events::Told, state };
        let watcher = Watcher::new().unwrap();
        let channel = Channel::open(&served, ours.into(), 1000, Some(&watcher)).unwrap();
        watcher.start().unwrap();
        static GUESTS: AtomicUsize = AtomicUsize::new(0);
        let number = GUESTS.fetch_add(1, Ordering::Relaxed);
        let mut guest =
            Self { dir, channel, message: Message::new().unwrap(), socket, told: Vec::new(), number, ends: 0 };
        if is_new {
            guest.ask(opcode::INIT, 0, &numbers(&[7, 31, 1 << 20, !(1 << 30)]));
        }
        assert!(guest.ask_for_events().is_empty());
        guest
    }

    #[track_caller]
    fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let answer = self.channel.asked(&mut self.message, (opcode, node), (0, 0), body);
        assert_eq!(answer.get(4..8).unwrap_or(&[0; 4]), [0; 4], "opcode {opcode} failed");
        answer.get(16..).unwrap_or_default().to_vec()
    }

    /// The number of what a name leads to.
    #[track_caller]
    fn look(&mut self, node: u64, name: &str) -> u64 {
        let told = self.ask(opcode::LOOKUP, node, &[name.as_bytes(), b"\0"].concat());
        u64::from_ne_bytes(*told.first_chunk().unwrap())
    }

    /// What is there; nothing: it comes later.
    fn ask_for_events(&mut self) -> Vec<u8> {
        self.message.load(&ask()).unwrap();
        let length = self.channel.answer(&mut self.message).unwrap();
        self.message.answered(length).unwrap()
    }

    /// What is told next; it was asked for before.
    fn next(&mut self) -> Vec<Event> {
        let mut answer = std::mem::take(&mut self.told);
        if answer.is_empty() {
            let mut head = [0; 4];
            self.socket.read_exact(&mut head).unwrap();
            answer = vec![0; u32::from_ne_bytes(head) as usize - 4];
            self.socket.read_exact(&mut answer).unwrap();
            answer.splice(0..0, head);
        }
        self.told = self.ask_for_events();
        answered(&answer).expect("events are told")
    }

    /// All that is told before what the host does now.
    fn so_far(&mut self) -> Vec<Event> {
        self.ends += 1;
        // Of several guests of a directory each has ends of its own.
        let end = format!("end {} {}", self.number, self.ends);
        fs::write(self.dir.join(&end), "").unwrap();
        let mut events = Vec::new();
        while !events.iter().any(|event: &Event| event.name == end.as_bytes()) {
            events.extend(self.next());
        }
        events.retain(|event| !event.name.starts_with(b"end "));
        events.into_iter().fold(Vec::new(), together)
    }
}

/// Wherever a turn ended between two changes of one file.
fn together(mut events: Vec<Event>, event: Event) -> Vec<Event> {
    if let What::Changed(more) = &event.what
        && let Some(last) =
            events.last_mut().filter(|last| (last.directory, &last.name) == (event.directory, &event.name))
        && let What::Changed(changes) | What::Created(changes) = &mut last.what
    {
        *changes = changes.and(*more);
        return events;
    }
    events.push(event);
    events
}

fn event(directory: u64, name: &str, kind: u16, what: What) -> Event {
    Event { directory, name: name.into(), kind, what }
}

#[test]
fn what_the_host_does_in_a_directory_that_the_guest_knows_is_told() {
    let dir = volume();
    let mut guest = Guest::new(dir.path(), None);
    let node = guest.look(ROOT, "dir");
    let file = guest.look(node, "file");
    fs::write(dir.path().join("dir/file"), "changed").unwrap();
    let written = Changes::CONTENT.and(Changes::CLOSED);
    assert_eq!(guest.so_far(), [event(node, "file", 0, What::Changed(written))]);
    fs::write(dir.path().join("dir/new"), "new").unwrap();
    assert_eq!(guest.so_far(), [event(node, "new", FILE, What::Created(written))]);
    fs::rename(dir.path().join("dir/new"), dir.path().join("dir/file")).unwrap();
    let what = What::Moved { node: 0, directory: node, name: b"file".to_vec(), replaced: (file, FILE) };
    assert_eq!(guest.so_far(), [event(node, "new", 0, what)]);
    let file = guest.look(node, "file");
    fs::rename(dir.path().join("dir"), dir.path().join("moved")).unwrap();
    let what = What::Moved { node, directory: ROOT, name: b"moved".to_vec(), replaced: (0, 0) };
    assert_eq!(guest.so_far(), [event(ROOT, "dir", DIRECTORY, what)]);
    fs::remove_file(dir.path().join("moved/file")).unwrap();
    assert_eq!(guest.so_far(), [event(node, "file", FILE, What::Deleted { node: file })]);
    fs::remove_dir(dir.path().join("moved")).unwrap();
    assert_eq!(guest.so_far(), [event(ROOT, "moved", DIRECTORY, What::Deleted { node })]);
}

#[test]
fn what_the_guest_does_itself_is_not_told_but_what_others_do_then_is() {
    let dir = volume();
    let mut guest = Guest::new(dir.path(), None);
    let node = guest.look(ROOT, "dir");
    let created = guest.ask(opcode::CREATE, node, &[&numbers(&[0o102, 0o644, 0, 0])[..], b"own\0"].concat());
    let own = u64::from_ne_bytes(*created.first_chunk().unwrap());
    let handle: [u8; 8] = *created[128..].first_chunk().unwrap();
    let write = [&handle[..], &[0; 8], &numbers(&[4, 0, 0, 0, 0, 0]), b"text"].concat();
    guest.ask(opcode::WRITE, own, &write);
    guest.ask(opcode::RELEASE, own, &[&handle[..], &numbers(&[2, 0, 0, 0])].concat());
    guest.ask(opcode::SETATTR, own, &[&numbers(&[1, 0])[..], &[0; 60], &0o600_u32.to_ne_bytes(), &[0; 16]].concat());
    guest.ask(opcode::MKDIR, node, &[&numbers(&[0o755, 0])[..], b"inner\0"].concat());
    guest.ask(opcode::SYMLINK, node, b"link\0target\0");
    guest.ask(opcode::LINK, node, &[&own.to_ne_bytes()[..], b"other\0"].concat());
    guest.ask(opcode::RENAME, node, &[&ROOT.to_ne_bytes()[..], b"own\0moved\0"].concat());
    guest.ask(opcode::UNLINK, ROOT, b"moved\0");
    guest.ask(opcode::RMDIR, node, b"inner\0");
    assert_eq!(guest.so_far(), []);
    fs::write(dir.path().join("dir/other"), "theirs").unwrap();
    let told = guest.so_far();
    assert_eq!(told, [event(node, "other", 0, What::Changed(Changes::CONTENT.and(Changes::CLOSED)))]);
}

#[test]
fn what_the_guest_has_forgotten_is_not_told_any_more() {
    let dir = volume();
    let mut guest = Guest::new(dir.path(), None);
    let node = guest.look(ROOT, "dir");
    guest.ask(opcode::FORGET, node, &1_u64.to_ne_bytes());
    fs::write(dir.path().join("dir/file"), "unseen").unwrap();
    assert_eq!(guest.so_far(), []);
    let node = guest.look(ROOT, "dir");
    fs::remove_file(dir.path().join("dir/file")).unwrap();
    assert_eq!(guest.so_far(), [event(node, "file", 0, What::Deleted { node: 0 })]);
}

#[test]
fn a_server_that_begins_with_anothers_tables_tells_of_the_directories_in_them() {
    let dir = volume();
    let mut guest = Guest::new(dir.path(), None);
    let node = guest.look(ROOT, "dir");
    let file = guest.look(node, "file");
    let state = guest.channel.save().unwrap();
    drop(guest);
    let mut clone = Guest::new(dir.path(), Some(state));
    fs::remove_file(dir.path().join("dir/file")).unwrap();
    assert_eq!(clone.so_far(), [event(node, "file", 0, What::Deleted { node: file })]);
}

#[test]
fn two_guests_in_one_directory_are_told_of_each_other_alone() {
    let dir = volume();
    let (mut one, mut other) = (Guest::new(dir.path(), None), Guest::new(dir.path(), None));
    let nodes = [one.look(ROOT, "dir"), other.look(ROOT, "dir")];
    one.ask(opcode::MKNOD, nodes[0], &[&numbers(&[0o100_644, 0, 0, 0])[..], b"hers\0"].concat());
    assert_eq!(other.so_far(), [event(nodes[1], "hers", FILE, What::Created(Changes::default()))]);
    other.ask(opcode::UNLINK, nodes[1], b"hers\0");
    let told: Vec<_> = one.so_far().into_iter().map(|told| (told.directory, told.name, told.what)).collect();
    assert!(
        matches!(&told[..], [(node, name, What::Deleted { .. })] if *node == nodes[0] && name == b"hers"),
        "{told:?}"
    );
}

#[test]
fn a_volume_without_events_refuses_to_tell_them() {
    let dir = volume();
    let owners = if fcvm_sys::process::runs_as_root() { Owners::Asking } else { Owners::One };
    let root = dir.path().to_str().unwrap().to_owned();
    let served = Served { root, cache: Cache::Auto, owners, events: Events::Untold, state: None };
    let (_socket, ours) = UnixStream::pair().unwrap();
    let channel = Channel::open(&served, ours.into(), 1000, None).unwrap();
    let mut message = Message::new().unwrap();
    message.load(&ask()).unwrap();
    let length = channel.answer(&mut message).unwrap();
    assert_eq!(answered(&message.answered(length).unwrap()), None);
}
