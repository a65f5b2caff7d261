//! What a hostile guest may try against a file server: messages of every shape, and races out of the volume.
//!
//! The messages are made from a seed, most of them nearly right, so that they get past the first check.

use crate::calls;
use crate::channel::Channel;
use crate::control::{Cache, Events, Owners, Served};
use crate::events::Watcher;
use crate::message::{ANSWER_HEADER, Message, opcode};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SECRET: &[u8] = b"what no guest may ever see";
const SEED: u64 = 0x6663_766d_0d0a_1a00;

/// Operations with names in their bodies, and which of them have a head of their own before that, in bytes.
const OF_NAMES: [(u32, usize); 10] =
    [(1, 0), (6, 0), (8, 16), (9, 8), (10, 0), (11, 0), (12, 8), (13, 8), (35, 16), (45, 16)];
const NAMES: [&[u8]; 14] = [
    b".",
    b"..",
    b"",
    b"/",
    b"dir",
    b"file",
    b"out",
    b"up",
    b"dir/file",
    b"../outside/secret",
    b"/etc/passwd",
    b"new",
    b"\xff\xfe",
    b"outside",
];
const NUMBERS: [u64; 11] = [0, 1, 2, 16, 4096, 1 << 20, u32::MAX as u64, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX];

/// A volume with something next to it.
struct Place {
    dir: TempDir,
    channel: Channel,
    message: Message,
    _guest: UnixStream,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(root.join("file"), "in the volume").unwrap();
        fs::write(root.join("dir/secret"), "in the volume").unwrap();
        fs::write(outside.join("secret"), SECRET).unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink("../outside", root.join("up")).unwrap();
        let (theirs, ours) = UnixStream::pair().unwrap();
        let owners = if fcvm_sys::process::runs_as_root() { Owners::Asking } else { Owners::One };
        let served = Served {
            root: root.to_str().unwrap().to_owned(),
            cache: Cache::Auto,
            owners,
            events: Events::Told,
            state: None,
        };
        let watcher = Watcher::new().unwrap();
        let channel = Channel::open(&served, ours.into(), 1000, Some(&watcher)).unwrap();
        let mut place = Self { dir, channel, message: Message::new().unwrap(), _guest: theirs };
        let flags = !(1_u32 << 30);
        place.ask(opcode::INIT, 0, (0, 0), &numbers(&[7, 31, 1 << 20, flags]));
        place
    }

    /// Asks, and returns what a guest would hear: the error and the body; nothing if there is no answer.
    fn ask(&mut self, opcode: u32, node: u64, who: (u32, u32), body: &[u8]) -> Option<(i32, Vec<u8>)> {
        let answer = self.channel.asked(&mut self.message, (opcode, node), who, body);
        if answer.is_empty() {
            return None;
        }
        // What the kernel refuses to hear would leave a program waiting for ever.
        let number = |at: usize| u32::from_ne_bytes(*answer[at..].first_chunk().unwrap());
        let error = number(4) as i32;
        assert!(
            answer.len() >= ANSWER_HEADER as usize && number(0) as usize == answer.len(),
            "opcode {opcode}: {answer:?}"
        );
        assert!((-511..=0).contains(&error), "opcode {opcode}: error {error}");
        assert_eq!(answer[8..16], Channel::UNIQUE.to_ne_bytes(), "opcode {opcode}");
        assert!(!answer.windows(SECRET.len()).any(|window| window == SECRET), "opcode {opcode} told the secret");
        Some((error, answer[ANSWER_HEADER as usize..].to_vec()))
    }

    /// The number of what a name leads to.
    fn look_up(&mut self, node: u64, name: &[u8]) -> Option<u64> {
        let (error, body) = self.ask(opcode::LOOKUP, node, (0, 0), &[name, b"\0"].concat())?;
        let found = u64::from_ne_bytes(*body.first_chunk()?);
        (error == 0 && found != 0).then_some(found)
    }

    fn assert_outside_is_untouched(&self) {
        let outside = self.dir.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read(outside.join("secret")).unwrap(), SECRET);
        let names = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(names, 2);
    }
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn body(&mut self, opcode: u32) -> Vec<u8> {
        let names = OF_NAMES.iter().find(|(named, _)| *named == opcode);
        let head = names.map_or_else(|| self.below(14) as usize * 8, |(_, head)| *head);
        let mut body: Vec<u8> = Vec::new();
        while body.len() < head {
            // No number between a few and very many: none of them may fill the disk of whoever runs the test.
            let number = if self.below(4) == 0 { self.roll() | 1 << 62 } else { self.of(&NUMBERS) };
            body.extend_from_slice(&number.to_ne_bytes());
        }
        if names.is_some() || self.below(8) == 0 {
            for _ in 0..=self.below(2) {
                body.extend_from_slice(self.of(&NAMES));
                body.extend_from_slice(self.of(&[&b"\0"[..], b"\0", b"\0", b""]));
            }
        }
        if self.below(16) == 0 {
            body.truncate(self.below(body.len() as u64 + 1) as usize);
        }
        body
    }
}

/// Attacks on a thread that may no more than a server does.
fn attack(seed: u64, goes_on: impl Fn(u64) -> bool + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| attack_here(seed, goes_on));
    });
}

fn attack_here(seed: u64, goes_on: impl Fn(u64) -> bool) {
    let mut place = Place::new();
    calls::allow_no_others().unwrap();
    let mut dice = Dice(seed);
    let mut nodes = vec![0, 1, 1, 1, u64::MAX];
    let mut told = 0;
    while goes_on(told) {
        told += 1;
        let opcode = if dice.below(20) == 0 { dice.roll() as u32 } else { dice.below(60) as u32 };
        let body = dice.body(opcode);
        let node = dice.of(&nodes);
        let who = dice.of(&[(0, 0), (1000, 1000), (u32::MAX, u32::MAX)]);
        let Some((error, body)) = place.ask(opcode, node, who, &body) else { continue };
        // What it has learnt it uses.
        if error == 0 && opcode::LEADING.contains(&opcode) {
            nodes.extend(body.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)));
        }
        if nodes.len() > 64 {
            nodes.truncate(5);
        }
    }
    place.assert_outside_is_untouched();
}

#[test]
fn whatever_a_guest_asks_it_is_answered_and_stays_in_its_volume() {
    attack(SEED, |told| told < 10_000);
}

#[test]
#[ignore = "takes ten minutes"]
fn whatever_a_guest_asks_for_ten_minutes_it_is_answered_and_stays_in_its_volume() {
    let started = Instant::now();
    let mut seed = SEED;
    while started.elapsed() < Duration::from_secs(600) {
        seed += 1;
        attack(seed, |told| told < 200_000 && started.elapsed() < Duration::from_secs(600));
    }
    eprintln!("{} seeds", seed - SEED);
}

#[test]
fn a_directory_that_becomes_a_link_outwards_meanwhile_leads_nowhere() {
    let mut place = Place::new();
    let (root, over) = (place.dir.path().join("root"), AtomicBool::new(false));
    let (dir, link) = (root.join("dir"), root.join("up"));
    std::thread::scope(|scope| {
        scope.spawn(|| race(&dir, &link, &over));
        let mut reached = 0;
        for turn in 0..3_000 {
            let Some(node) = place.look_up(1, b"dir") else { continue };
            if let Some(file) = place.look_up(node, b"secret") {
                reached += 1;
                let opened = place.ask(14, file, (0, 0), &numbers(&[0, 0]));
                if let Some((0, body)) = opened {
                    let read = [&body[..8], &[0; 8], &numbers(&[4096, 0, 0, 0, 0, 0])].concat();
                    place.ask(opcode::READ, file, (0, 0), &read);
                    place.ask(18, file, (0, 0), &[&body[..8], &[0; 16]].concat());
                }
            }
            let name = format!("new{turn}\0");
            place.ask(35, node, (0, 0), &[&numbers(&[0o102, 0o644, 0, 0])[..], name.as_bytes()].concat());
            place.ask(10, node, (0, 0), b"secret2\0");
            place.ask(2, node, (0, 0), &1_u64.to_ne_bytes());
        }
        over.store(true, Ordering::Relaxed);
        assert!(reached > 0);
    });
    place.assert_outside_is_untouched();
}

fn race(dir: &Path, link: &Path, over: &AtomicBool) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    while !over.load(Ordering::Relaxed) {
        renameat_with(CWD, dir, CWD, link, RenameFlags::EXCHANGE).unwrap();
    }
}
