//! Which requests of the kernel the agent answers itself, so that an event is raised and nothing is done twice.
//!
//! The thread that raises events makes the call that would have had them ([`super::raise`]). What the kernel asks for it
//! is told by the thread's number in the request. Questions about what is there go to the host. What would change
//! something never does: what the call is about is answered here or turned into a question, anything else is refused.
//!
//! | event | the kernel asks | it is told |
//! | --- | --- | --- |
//! | changed | SETATTR, OPEN | the host's attributes; a handle of our own |
//! | created | LOOKUP, then MKNOD, MKDIR or SYMLINK | that there is none; what the host's LOOKUP says |
//! | deleted | LOOKUP, then UNLINK or RMDIR | what is left of it; that it is done |
//! | moved | LOOKUP of both names, then RENAME | what the host has at the new name; what is left of what was there; that it is done |
//!
//! The kernel counts how often it was told of a file, and so does the host. Where one was told and not the other, the
//! difference is kept ([`Requests::debts`]) or forgotten at once.

use fcvm_proto::events::{Event, What};
use rustix::io::Errno;
use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

/// Numbers of files and handles that the host knows nothing of have this bit; it counts its own from the other end.
pub(super) const OURS: u64 = 1 << 63;

/// The headers of a request and of an answer (`fuse_in_header`, `fuse_out_header`).
pub(super) const REQUEST_HEADER: usize = 40;
pub(super) const ANSWER_HEADER: usize = 16;
/// What a file is (`fuse_attr`); what stands before that in the answers to LOOKUP and to GETATTR.
const ATTRIBUTES: usize = 88;
const BEFORE_IN_ENTRY: usize = 40;
const BEFORE_IN_ATTRIBUTES: usize = 16;
/// Where among the attributes the mode is, and the count of links.
const MODE: usize = 60;
const LINKS: usize = 64;

const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// What may be set with no effect but an event: access and modification time, to now or not (`FATTR_*`), by a handle.
const TIMES: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10;
/// Nothing is remembered of what is read by a handle of ours (`FOPEN_DIRECT_IO`), and whoever closes it waits for nothing
/// (`FOPEN_NOFLUSH`): a program that the agent starts at that moment has it too and closes it as it is executed.
const OPENED: u32 = 1 | 1 << 5;

/// What requests are about (`fuse_opcode`).
mod opcode {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const SETATTR: u32 = 4;
    pub(super) const SYMLINK: u32 = 6;
    pub(super) const MKNOD: u32 = 8;
    pub(super) const MKDIR: u32 = 9;
    pub(super) const UNLINK: u32 = 10;
    pub(super) const RMDIR: u32 = 11;
    pub(super) const RENAME: u32 = 12;
    pub(super) const OPEN: u32 = 14;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const BATCH_FORGET: u32 = 42;
    /// READLINK, STATFS, GETXATTR, LISTXATTR, ACCESS.
    pub(super) const QUESTIONS: [u32; 5] = [5, 17, 22, 23, 34];
}

/// What the thread that raises events is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It opens the root of the volume.
    Begin,
    /// It raises an event.
    Raise(Event),
}

/// What is done about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It goes to the host like this.
    Carry(Vec<u8>),
    /// This is its answer.
    Answer(Vec<u8>),
    /// It was one that has no answer, of no interest to the host.
    Nothing,
}

/// What the kernel is told instead of what the host answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// A file that was just made, of this type.
    Made(u32),
    /// A file of this number and type whose name leads elsewhere now; the host was asked for its attributes.
    Left(u64, u32),
}

/// The requests of one volume.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// By the number of a request that is on its way.
    then: HashMap<u64, Then>,
    /// How often the kernel was told of a file that the host did not tell of.
    debts: HashMap<u64, u64>,
    /// Files that never were.
    made_up: u64,
    /// What the host is to hear from us.
    pub(super) outgoing: VecDeque<Vec<u8>>,
}

impl Requests {
    /// Decides about a request; `act` is what its thread is about if it is the one that raises events.
    pub(super) fn treat(&mut self, mut request: Vec<u8>, act: Option<&Act>) -> Treatment {
        let opcode = word(&request, 4);
        match opcode {
            opcode::FORGET => {
                let left = self.pay(long(&request, 16), long(&request, REQUEST_HEADER));
                if left == 0 {
                    return Treatment::Nothing;
                }
                request.truncate(REQUEST_HEADER);
                request.extend_from_slice(&left.to_ne_bytes());
                return Treatment::Carry(request);
            }
            opcode::BATCH_FORGET => return self.forget_several(&request),
            opcode::INTERRUPT => return Treatment::Carry(request),
            _ => {}
        }
        let is_ours = |at: usize| long(&request, at) & OURS != 0;
        if matches!(opcode, opcode::FLUSH | opcode::RELEASE | opcode::RELEASEDIR) && is_ours(REQUEST_HEADER) {
            return Treatment::Answer(answer(&request, 0, &[]));
        }
        // No program is to wait for the host about what never was; it looks anew.
        if is_ours(16) {
            return refuse(&request, Errno::STALE);
        }
        match act {
            None => Treatment::Carry(request),
            Some(act) => self.play(request, act),
        }
    }

    /// What the kernel is told of what the host has answered.
    pub(super) fn settle<'a>(&mut self, answer: &'a [u8]) -> Cow<'a, [u8]> {
        // There are none but while an event is raised.
        if self.then.is_empty() {
            return answer.into();
        }
        match self.then.remove(&long(answer, 8)) {
            None => answer.into(),
            Some(Then::Made(kind)) => self.made(answer, kind),
            Some(Then::Left(node, kind)) => {
                *self.debts.entry(node).or_default() += 1;
                let is_told = answer.len() == ANSWER_HEADER + BEFORE_IN_ATTRIBUTES + ATTRIBUTES;
                let told = answer.get(ANSWER_HEADER + BEFORE_IN_ATTRIBUTES..).filter(|_| is_told);
                let mut attributes = told.map_or_else(|| made_up(node, kind), <[u8]>::to_vec);
                if told.is_some() {
                    // It is about to lose a link, of which the host's count knows.
                    let links = word(&attributes, LINKS).saturating_add(1);
                    attributes[LINKS..LINKS + 4].copy_from_slice(&links.to_ne_bytes());
                }
                respond(long(answer, 8), 0, &entry(node, &attributes)).into()
            }
        }
    }

    /// What is on its way is not answered any more.
    pub(super) fn give_up(&mut self) {
        self.then.clear();
    }

    fn play(&mut self, request: Vec<u8>, act: &Act) -> Treatment {
        let opcode = word(&request, 4);
        let event = match act {
            Act::Raise(event) => event,
            Act::Begin => {
                return if opcode == opcode::OPENDIR { open(&request) } else { question(request) };
            }
        };
        let node = long(&request, 16);
        let is_named = |head: usize| node == event.directory && name(&request, head) == event.name;
        match (opcode, &event.what) {
            (opcode::SETATTR, What::Changed(_) | What::Created(_)) if word(&request, REQUEST_HEADER) & !TIMES == 0 => {
                Treatment::Carry(ask(&request, opcode::GETATTR, node, &[0; 16]))
            }
            (opcode::OPEN, What::Changed(_) | What::Created(_)) => open(&request),
            (opcode::LOOKUP, What::Created(_)) if is_named(0) => refuse(&request, Errno::NOENT),
            (opcode::SYMLINK, What::Created(_)) if is_named(0) => self.look(&request, event, 0),
            (opcode::MKDIR, What::Created(_)) if is_named(8) => self.look(&request, event, 8),
            (opcode::MKNOD, What::Created(_)) if is_named(16) => self.look(&request, event, 16),
            (opcode::LOOKUP, What::Deleted { node }) if is_named(0) => {
                self.leave(&request, *node, u32::from(event.kind))
            }
            (opcode::UNLINK | opcode::RMDIR, What::Deleted { .. }) if is_named(0) => {
                Treatment::Answer(answer(&request, 0, &[]))
            }
            (opcode::LOOKUP, What::Moved { directory, name, .. }) if is_named(0) => {
                Treatment::Carry(ask(&request, opcode::LOOKUP, *directory, &terminated(name)))
            }
            (opcode::LOOKUP, What::Moved { directory, name: new, replaced, .. })
                if node == *directory && name(&request, 0) == new =>
            {
                match replaced {
                    (0, _) => refuse(&request, Errno::NOENT),
                    (node, kind) => self.leave(&request, *node, u32::from(*kind)),
                }
            }
            (opcode::RENAME, What::Moved { directory, name: new, .. })
                if is_named(8)
                    && long(&request, REQUEST_HEADER) == *directory
                    && name(&request, 8 + event.name.len() + 1) == new =>
            {
                Treatment::Answer(answer(&request, 0, &[]))
            }
            _ => question(request),
        }
    }

    /// Turns what would make a file into the question what it is.
    fn look(&mut self, request: &[u8], event: &Event, head: usize) -> Treatment {
        self.then.insert(long(request, 8), Then::Made(u32::from(event.kind)));
        Treatment::Carry(ask(request, opcode::LOOKUP, event.directory, &terminated(name(request, head))))
    }

    /// Says of a name that it leads to a file which has it no more.
    fn leave(&mut self, request: &[u8], node: u64, kind: u32) -> Treatment {
        if node != 0 {
            self.then.insert(long(request, 8), Then::Left(node, kind));
            return Treatment::Carry(ask(request, opcode::GETATTR, node, &[0; 16]));
        }
        // The kernel has never heard of it: it hears of one for as long as it takes to delete it.
        self.made_up += 1;
        let node = OURS | self.made_up;
        Treatment::Answer(answer(request, 0, &entry(node, &made_up(node, kind))))
    }

    fn made<'a>(&mut self, told: &'a [u8], kind: u32) -> Cow<'a, [u8]> {
        let unique = long(told, 8);
        let node = told.get(ANSWER_HEADER..).filter(|_| word(told, 4) == 0).map(|entry| long(entry, 0));
        let Some(node) = node else { return told.into() };
        if node == 0 {
            return respond(unique, -Errno::NOENT.raw_os_error(), &[]).into();
        }
        if word(told, ANSWER_HEADER + BEFORE_IN_ENTRY + MODE) & TYPE != kind & TYPE {
            // It is another one already. The kernel would not take it, and would not say so.
            self.outgoing.push_back(message(opcode::FORGET, 0, node, &1_u64.to_ne_bytes()));
            return respond(unique, -Errno::IO.raw_os_error(), &[]).into();
        }
        told.into()
    }

    /// How often the host is to forget a file that the kernel forgets so often.
    fn pay(&mut self, node: u64, times: u64) -> u64 {
        if node & OURS != 0 {
            return 0;
        }
        let Some(debt) = self.debts.get_mut(&node) else { return times };
        let paid = times.min(*debt);
        *debt -= paid;
        if *debt == 0 {
            self.debts.remove(&node);
        }
        times - paid
    }

    fn forget_several(&mut self, request: &[u8]) -> Treatment {
        let all = request.get(REQUEST_HEADER + 8..).unwrap_or_default().chunks_exact(16);
        let mut left = Vec::new();
        for one in all {
            let (node, times) = (long(one, 0), long(one, 8));
            let times = self.pay(node, times);
            if times > 0 {
                left.extend_from_slice(&node.to_ne_bytes());
                left.extend_from_slice(&times.to_ne_bytes());
            }
        }
        if left.is_empty() {
            return Treatment::Nothing;
        }
        let count = [&((left.len() / 16) as u32).to_ne_bytes()[..], &[0; 4]].concat();
        Treatment::Carry(message(opcode::BATCH_FORGET, 0, 0, &[count, left].concat()))
    }
}

/// A question goes to the host; whatever else it is, it is not done.
fn question(request: Vec<u8>) -> Treatment {
    let opcode = word(&request, 4);
    if matches!(opcode, opcode::LOOKUP | opcode::GETATTR) || opcode::QUESTIONS.contains(&opcode) {
        return Treatment::Carry(request);
    }
    refuse(&request, Errno::IO)
}

fn refuse(request: &[u8], error: Errno) -> Treatment {
    Treatment::Answer(answer(request, -error.raw_os_error(), &[]))
}

/// Opens a file for the thread that raises events; the host knows nothing of it (`fuse_open_out`).
fn open(request: &[u8]) -> Treatment {
    let opened = [&OURS.to_ne_bytes()[..], &OPENED.to_ne_bytes(), &[0; 4]].concat();
    Treatment::Answer(answer(request, 0, &opened))
}

/// Another request in the place of one, with its number and for whom it was.
fn ask(request: &[u8], opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut asked = message(opcode, long(request, 8), node, body);
    if let Some(who) = request.get(24..36) {
        asked[24..36].copy_from_slice(who);
    }
    asked
}

fn message(opcode: u32, unique: u64, node: u64, body: &[u8]) -> Vec<u8> {
    let length = (REQUEST_HEADER + body.len()) as u32;
    let head = [length.to_ne_bytes(), opcode.to_ne_bytes()].concat();
    [&head[..], &unique.to_ne_bytes(), &node.to_ne_bytes(), &[0; 16], body].concat()
}

fn answer(request: &[u8], error: i32, body: &[u8]) -> Vec<u8> {
    respond(long(request, 8), error, body)
}

fn respond(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let length = (ANSWER_HEADER + body.len()) as u32;
    [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), body].concat()
}

/// What a name leads to, to be believed for no longer than this call (`fuse_entry_out`).
fn entry(node: u64, attributes: &[u8]) -> Vec<u8> {
    [&node.to_ne_bytes()[..], &[0; BEFORE_IN_ENTRY - 8], attributes].concat()
}

/// The attributes of a file of which nothing is left but its type.
fn made_up(node: u64, kind: u32) -> Vec<u8> {
    let kind = if kind & TYPE == 0 { REGULAR } else { kind & TYPE };
    let mut attributes = vec![0; ATTRIBUTES];
    attributes[..8].copy_from_slice(&node.to_ne_bytes());
    attributes[MODE..MODE + 4].copy_from_slice(&(kind | 0o600).to_ne_bytes());
    let links: u32 = if kind == DIRECTORY { 2 } else { 1 };
    attributes[LINKS..LINKS + 4].copy_from_slice(&links.to_ne_bytes());
    attributes
}

fn terminated(name: &[u8]) -> Vec<u8> {
    [name, b"\0"].concat()
}

/// The name that begins so far behind the header; nothing if none does.
fn name(request: &[u8], head: usize) -> &[u8] {
    let rest = request.get(REQUEST_HEADER + head..).unwrap_or_default();
    rest.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn word(message: &[u8], at: usize) -> u32 {
    message.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

pub(super) fn long(message: &[u8], at: usize) -> u64 {
    message.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// Who asks: the number of a thread, or zero.
pub(super) fn thread(request: &[u8]) -> u32 {
    word(request, 32)
}

#[cfg(test)]
mod tests;
