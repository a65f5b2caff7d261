//! What becomes of a machine and of its server when the other ends, or says what makes no sense.

use crate::machine::{Machine, PAGE, Server, Snapshot, own_pidfd, pidfd, value};
use fcvm_pager::{Files, Link, LinkError, PULSE, Program, start};
use fcvm_sys::descriptor;
use fcvm_sys::jail::Entrance;
use rustix::process::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_server_in_its_jail_serves_and_its_end_is_seen_at_once", killed_server),
    ("an_owner_that_asks_is_answered", asked),
    ("a_server_is_ended_by_a_system_call_that_serving_does_not_take", filtered),
    ("a_monitor_that_ended_is_served_no_longer", dead_monitor),
    ("an_owner_that_hangs_up_ends_the_service_of_its_machine", hung_up),
    ("a_snapshot_that_was_cut_short_ends_the_machine_and_makes_no_zeros", cut_short),
    ("a_message_that_makes_no_sense_ends_that_connection_alone", nonsense),
    ("a_server_that_is_not_there_is_an_error", absent),
];

const PAGES: u64 = 64;

/// All that comes until the other side hangs up.
fn last_words(link: Link) -> String {
    let mut words = Vec::new();
    link.into_stream().read_to_end(&mut words).unwrap();
    Link::reason(&words)
}

fn killed_server() {
    let snapshot = Snapshot::new(PAGES);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let files = Files {
        memory: snapshot.memory.try_clone().unwrap(),
        pages: Some(snapshot.overlay.try_clone().unwrap()),
        listener: UnixListener::bind(&socket).unwrap(),
    };
    let this = std::env::current_exe().unwrap();
    let entrance = Entrance { executable: this.clone(), arguments: vec![crate::JAIL.into()] };
    let program = Program { executable: this, arguments: vec![crate::PAGER.into()] };
    let server = start(&program, &snapshot.order, files, &entrance).unwrap();
    let machine = Machine::new(PAGES);
    let link = machine.hand_over(&socket).unwrap();
    assert!((0..PAGES).all(|page| machine.read(page) == value(page)));
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.pid())).unwrap();
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|found| found == line), "{line} in {status}");
    }
    drop(server);
    assert_eq!(last_words(link), "its page server ended");
    assert!(matches!(Machine::new(PAGES).hand_over(&socket), Err(LinkError::Connect(_))));
}

/// The answer of one that is asked comes from the thread that brings the pages, so one that stands still gives none.
fn asked() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let machine = Machine::new(PAGES);
    let mut stream = machine.hand_over(&server.socket).unwrap().into_stream();
    for count in [1, 3, 100] {
        let pulses = vec![PULSE; count];
        stream.write_all(&pulses).unwrap();
        let mut answers = vec![0; count];
        stream.read_exact(&mut answers).unwrap();
        assert_eq!(answers, pulses);
        assert_eq!(machine.read(count as u64 % PAGES), value(count as u64 % PAGES));
    }
}

fn filtered() {
    let mut child = Command::new(std::env::current_exe().unwrap()).arg(crate::FILTERED).spawn().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::SYS.as_raw()));
}

/// Does what a server may and then what it may not.
pub(crate) fn be_filtered() -> ExitCode {
    fcvm_pager::confine().unwrap();
    assert!(File::open("/dev/null").is_err(), "what libraries would open is refused");
    std::thread::spawn(|| {}).join().unwrap();
    let _ends_here = UnixStream::connect("/nowhere");
    ExitCode::SUCCESS
}

fn dead_monitor() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let mut monitor = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let machine = Machine::new(PAGES);
    let link = machine.hand_over_as(&server.socket, &pidfd(monitor.id())).unwrap();
    assert_eq!(machine.read(5), value(5));
    monitor.kill().unwrap();
    assert_eq!(last_words(link), "its page server ended");
    monitor.wait().unwrap();
}

fn hung_up() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    for _ in 0..3 {
        drop(Machine::new(PAGES).hand_over(&server.socket).unwrap());
    }
    // Waits for the threads of all machines.
    drop(server);
}

fn cut_short() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let machine = Machine::new(PAGES);
    let link = machine.hand_over(&server.socket).unwrap();
    assert_eq!(machine.read(1), value(1));
    snapshot.memory.set_len(32 * PAGE).unwrap();
    // Who touches the page waits until someone ends the machine; nobody does here, so it is not joined.
    let machine: &'static Machine = Box::leak(Box::new(machine));
    std::thread::spawn(|| machine.read(40));
    let reason = last_words(link);
    assert!(reason.contains("gave up") && reason.contains("cannot be put"), "{reason}");
    assert!(!machine.memory.has(machine.at(40 * PAGE)).unwrap());
}

fn nonsense() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let machine = Machine::new(PAGES);
    let (null, own) = (File::open("/dev/null").unwrap(), own_pidfd());
    let message = machine.message();
    let foreign = Link::hand_over(&server.socket, &message, null.as_fd(), own.as_fd()).unwrap_err();
    assert!(foreign.to_string().contains("no userfaultfd"), "{foreign}");
    for (bytes, descriptors, expected) in [
        (&b"]["[..], 2, "not understood"),
        (&b"[]"[..], 2, "0 regions"),
        (&message[..], 0, "0 descriptors"),
        (&message[..], 1, "1 descriptors"),
        (&message[..], 3, "3 descriptors"),
        (&message[..message.len() / 2], 2, "not understood"),
    ] {
        let mut connection = UnixStream::connect(&server.socket).unwrap();
        descriptor::send(&connection, bytes, &vec![null.as_fd(); descriptors]).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(expected), "{expected}: {answer}");
    }
    drop(UnixStream::connect(&server.socket).unwrap());
    let other = Machine::new(PAGES / 2);
    let refused = other.hand_over(&server.socket).unwrap_err().to_string();
    assert!(refused.contains("that of the snapshot"), "{refused}");
    let _link = machine.hand_over(&server.socket).unwrap();
    assert_eq!(machine.read(9), value(9), "the others are served as before");
}

fn absent() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::new(2);
    assert!(matches!(machine.hand_over(&dir.path().join("socket")), Err(LinkError::Connect(_))));
    assert!(matches!(machine.hand_over(&dir.path().join("none/socket")), Err(LinkError::Connect(_))));
}
