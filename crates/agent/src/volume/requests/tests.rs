//! What the kernel asks, as Linux 6 lays it out, and what it is told.

use super::*;
use fcvm_proto::events::Changes;

const UNIQUE: u64 = 42;
const DIRECTORY_NODE: u64 = 7;
const FILE: u16 = 0o100_000;

fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let mut request = message(opcode, UNIQUE, node, body);
    request[24..28].copy_from_slice(&1000_u32.to_ne_bytes());
    request[32..36].copy_from_slice(&99_u32.to_ne_bytes());
    request
}

fn named(opcode: u32, head: usize, name: &str) -> Vec<u8> {
    request(opcode, DIRECTORY_NODE, &[&vec![0; head][..], name.as_bytes(), b"\0"].concat())
}

fn act(what: What) -> Act {
    Act::Raise(Event { directory: DIRECTORY_NODE, name: b"file".to_vec(), kind: FILE, what })
}

fn created() -> Act {
    act(What::Created(Changes::default()))
}

fn moved(replaced: u64) -> Act {
    act(What::Moved { node: 0, directory: 8, name: b"other".to_vec(), replaced: (replaced, FILE) })
}

/// Opcode, node and body of what is carried to the host.
#[track_caller]
fn carried(treatment: Treatment) -> (u32, u64, Vec<u8>) {
    let Treatment::Carry(request) = treatment else { panic!("{treatment:?}") };
    assert_eq!(word(&request, 0) as usize, request.len());
    (word(&request, 4), long(&request, 16), request[REQUEST_HEADER..].to_vec())
}

/// Error and body of what is answered.
#[track_caller]
fn answered(treatment: Treatment) -> (i32, Vec<u8>) {
    let Treatment::Answer(answer) = treatment else { panic!("{treatment:?}") };
    assert_eq!((word(&answer, 0) as usize, long(&answer, 8)), (answer.len(), UNIQUE));
    (word(&answer, 4) as i32, answer[ANSWER_HEADER..].to_vec())
}

fn errno(error: Errno) -> (i32, Vec<u8>) {
    (-error.raw_os_error(), Vec::new())
}

fn attributes(node: u64, mode: u32, links: u32) -> Vec<u8> {
    let mut attributes = made_up(node, mode);
    attributes[LINKS..LINKS + 4].copy_from_slice(&links.to_ne_bytes());
    attributes
}

#[test]
fn what_other_threads_ask_goes_to_the_host_as_it_is() {
    let mut requests = Requests::default();
    for opcode in (0..60).filter(|opcode| ![2, 42].contains(opcode)) {
        let request = request(opcode, 5, b"0123456789012345name\0other\0");
        assert_eq!(requests.treat(request.clone(), None), Treatment::Carry(request), "{opcode}");
    }
    assert_eq!(requests.settle(b"any answer"), &b"any answer"[..]);
}

#[test]
fn a_change_is_a_question_for_attributes_and_nothing_is_opened_on_the_host() {
    let mut requests = Requests::default();
    let change = act(What::Changed(Changes::CONTENT));
    let touch = |valid: u32| request(opcode::SETATTR, 9, &[&valid.to_ne_bytes()[..], &[0; 84]].concat());
    let asked = carried(requests.treat(touch(1 << 5 | 1 << 8), Some(&change)));
    assert_eq!(asked, (opcode::GETATTR, 9, vec![0; 16]));
    // A length, an owner or a mode is not set by anyone.
    for valid in [1, 2, 4, 8] {
        assert_eq!(answered(requests.treat(touch(valid), Some(&change))), errno(Errno::IO));
    }
    let (error, opened) = answered(requests.treat(request(opcode::OPEN, 9, &[0; 8]), Some(&change)));
    assert_eq!((error, long(&opened, 0)), (0, OURS));
    // Whoever closes it does not wait for the thread that raises events: it may be the agent.
    assert_ne!(word(&opened, 8) & 1 << 5, 0);
    let handle = [&opened[..8], &[0; 16]].concat();
    // Closed and released by whoever has it, of no number.
    for opcode in [opcode::FLUSH, opcode::RELEASE] {
        for act in [Some(&change), None] {
            assert_eq!(answered(requests.treat(request(opcode, 9, &handle), act)), (0, Vec::new()));
        }
    }
}

#[test]
fn what_was_created_is_looked_up_when_the_kernel_would_make_it() {
    let mut requests = Requests::default();
    assert_eq!(answered(requests.treat(named(opcode::LOOKUP, 0, "file"), Some(&created()))), errno(Errno::NOENT));
    for (opcode, head) in [(opcode::MKNOD, 16), (opcode::MKDIR, 8), (opcode::SYMLINK, 0)] {
        let asked = carried(requests.treat(named(opcode, head, "file"), Some(&created())));
        assert_eq!(asked, (opcode::LOOKUP, DIRECTORY_NODE, b"file\0".to_vec()));
        let told = respond(UNIQUE, 0, &entry(11, &attributes(11, u32::from(FILE), 1)));
        assert_eq!(requests.settle(&told), &told[..]);
    }
    assert!(requests.outgoing.is_empty());
}

#[test]
fn what_is_gone_or_another_by_then_is_not_made_and_counts_for_nobody() {
    let mut requests = Requests::default();
    let mut answer_of = |told: &[u8]| {
        carried(requests.treat(named(opcode::MKNOD, 16, "file"), Some(&created())));
        let settled = requests.settle(told).into_owned();
        (word(&settled, 4) as i32, requests.outgoing.pop_front())
    };
    let refused = respond(UNIQUE, -13, &[]);
    assert_eq!(answer_of(&refused), (-13, None));
    let absent = respond(UNIQUE, 0, &entry(0, &[0; ATTRIBUTES]));
    assert_eq!(answer_of(&absent), (-Errno::NOENT.raw_os_error(), None));
    let another = respond(UNIQUE, 0, &entry(11, &attributes(11, DIRECTORY, 2)));
    let forgotten = message(opcode::FORGET, 0, 11, &1_u64.to_ne_bytes());
    assert_eq!(answer_of(&another), (-Errno::IO.raw_os_error(), Some(forgotten)));
    assert_eq!(answer_of(&another[..20]).0, -Errno::NOENT.raw_os_error());
}

#[test]
fn what_was_deleted_is_there_until_the_kernel_has_deleted_it() {
    let mut requests = Requests::default();
    let delete = act(What::Deleted { node: 11 });
    let asked = carried(requests.treat(named(opcode::LOOKUP, 0, "file"), Some(&delete)));
    assert_eq!(asked, (opcode::GETATTR, 11, vec![0; 16]));
    // Somebody has it open, and there is one name more of it.
    let told = respond(UNIQUE, 0, &[&[0; BEFORE_IN_ATTRIBUTES][..], &attributes(11, u32::from(FILE), 1)].concat());
    let settled = requests.settle(&told).into_owned();
    assert_eq!(settled, respond(UNIQUE, 0, &entry(11, &attributes(11, u32::from(FILE), 2))));
    // Nothing is left of it on the host.
    carried(requests.treat(named(opcode::LOOKUP, 0, "file"), Some(&delete)));
    let settled = requests.settle(&respond(UNIQUE, -116, &[])).into_owned();
    assert_eq!(settled, respond(UNIQUE, 0, &entry(11, &attributes(11, u32::from(FILE), 1))));
    for opcode in [opcode::UNLINK, opcode::RMDIR] {
        assert_eq!(answered(requests.treat(named(opcode, 0, "file"), Some(&delete))), (0, Vec::new()));
        assert_eq!(answered(requests.treat(named(opcode, 0, "another"), Some(&delete))), errno(Errno::IO));
    }
    // The kernel was told twice more than the host knows of.
    let forget = |times: u64| request(opcode::FORGET, 11, &times.to_ne_bytes());
    assert_eq!(carried(requests.treat(forget(5), None)), (opcode::FORGET, 11, 3_u64.to_ne_bytes().to_vec()));
    assert_eq!(carried(requests.treat(forget(5), None)).2, 5_u64.to_ne_bytes());
}

#[test]
fn a_file_that_never_was_is_forgotten_without_the_host() {
    let mut requests = Requests::default();
    let delete = act(What::Deleted { node: 0 });
    let (error, told) = answered(requests.treat(named(opcode::LOOKUP, 0, "file"), Some(&delete)));
    let node = long(&told, 0);
    assert_eq!((error, node & OURS), (0, OURS));
    assert_eq!(word(&told, BEFORE_IN_ENTRY + MODE) & TYPE, REGULAR);
    assert_eq!(answered(requests.treat(request(opcode::OPEN, node, &[0; 8]), None)), errno(Errno::STALE));
    let forget = request(opcode::FORGET, node, &1_u64.to_ne_bytes());
    assert_eq!(requests.treat(forget, None), Treatment::Nothing);
    requests.debts.insert(5, 2);
    let all = [2, 0, node, 1, 5, 2, 6, 3].map(u64::to_ne_bytes).concat();
    let left = [1, 6, 3].map(u64::to_ne_bytes).concat();
    let batch = |body: &[u8]| request(opcode::BATCH_FORGET, 0, body);
    // `count` and what pads it are one number here.
    let all = [&all[..8], &all[16..]].concat();
    assert_eq!(carried(requests.treat(batch(&all), None)), (opcode::BATCH_FORGET, 0, left));
    assert_eq!(requests.treat(batch(&[&1_u64.to_ne_bytes()[..], &all[8..24]].concat()), None), Treatment::Nothing);
}

#[test]
fn what_moved_is_found_where_it_is_and_what_was_there_is_left_behind() {
    let mut requests = Requests::default();
    let asked = carried(requests.treat(named(opcode::LOOKUP, 0, "file"), Some(&moved(0))));
    assert_eq!(asked, (opcode::LOOKUP, 8, b"other\0".to_vec()));
    let target = || request(opcode::LOOKUP, 8, b"other\0");
    assert_eq!(answered(requests.treat(target(), Some(&moved(0)))), errno(Errno::NOENT));
    assert_eq!(carried(requests.treat(target(), Some(&moved(12)))).1, 12);
    let rename =
        |to: u64, names: &[u8]| request(opcode::RENAME, DIRECTORY_NODE, &[&to.to_ne_bytes()[..], names].concat());
    assert_eq!(answered(requests.treat(rename(8, b"file\0other\0"), Some(&moved(0)))), (0, Vec::new()));
    for another in [rename(9, b"file\0other\0"), rename(8, b"file\0another\0"), rename(8, b"other\0file\0")] {
        assert_eq!(answered(requests.treat(another, Some(&moved(0)))), errno(Errno::IO));
    }
}

#[test]
fn nothing_that_would_change_the_host_comes_from_the_thread_that_raises_events() {
    let acts = [Act::Begin, created(), moved(3), act(What::Changed(Changes::CONTENT)), act(What::Deleted { node: 3 })];
    let harmless = [1, 2, 3, 5, 17, 22, 23, 34, 36, 42];
    for act in &acts {
        for opcode in 0..60 {
            for length in 0..80 {
                let mut requests = Requests::default();
                let body = [&[0xff; 8][..], b"file\0other\0file\0file\0file\0", &[0; 60]].concat();
                let treatment = requests.treat(request(opcode, DIRECTORY_NODE, &body[..length]), Some(act));
                if let Treatment::Carry(carried) = treatment {
                    assert!(harmless.contains(&word(&carried, 4)), "{act:?}: {opcode} became {carried:?}");
                }
            }
        }
        let mut requests = Requests::default();
        for length in 0..REQUEST_HEADER {
            let _any = requests.treat(request(opcode::LOOKUP, 1, &[])[..length].to_vec(), Some(act));
        }
    }
}
