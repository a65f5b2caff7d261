//! What a machine finds in its memory.

use crate::machine::{Machine, PAGE, Server, Snapshot, value};
use std::thread;

pub(crate) const TESTS: &[crate::Test] = &[
    ("a_machine_finds_what_the_snapshot_holds", finds),
    ("threads_that_touch_the_same_pages_all_go_on", races),
    ("many_machines_find_the_same_and_write_apart", many),
    ("what_was_given_back_reads_as_zeros_while_others_fault", gives_back),
    ("what_is_used_at_once_is_there_before_it_is_touched", ahead),
];

/// Those that want huge pages of the host.
pub(crate) const HUGE: &[crate::Test] = &[("huge_pages_are_put_together_from_all_files", huge)];

const PAGES: u64 = 1024;

fn finds() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let machine = Machine::new(PAGES);
    let _link = machine.hand_over(&server.socket).unwrap();
    for page in (0..PAGES).rev() {
        assert_eq!(machine.read(page), value(page), "page {page}");
    }
}

fn races() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    for _ in 0..10 {
        let machine = Machine::new(PAGES);
        let _link = machine.hand_over(&server.socket).unwrap();
        thread::scope(|scope| {
            for stride in [1, 3, 5, 7] {
                let machine = &machine;
                scope.spawn(move || {
                    for step in 0..PAGES {
                        let page = step * stride % PAGES;
                        assert_eq!(machine.read(page), value(page), "page {page}");
                    }
                });
            }
        });
    }
}

fn many() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let machines: Vec<Machine> = (0..16).map(|_| Machine::new(PAGES)).collect();
    let _links: Vec<_> = machines.iter().map(|machine| machine.hand_over(&server.socket).unwrap()).collect();
    thread::scope(|scope| {
        for (number, machine) in machines.iter().enumerate() {
            scope.spawn(move || {
                for page in 0..PAGES {
                    let at = machine.at(page * PAGE);
                    assert_eq!(machine.memory.read(at), value(page));
                    machine.memory.write(at, number as u8);
                }
                assert!((0..PAGES).all(|page| machine.memory.read(machine.at(page * PAGE)) == number as u8));
            });
        }
    });
}

fn gives_back() {
    let snapshot = Snapshot::new(PAGES);
    let server = Server::of(&snapshot);
    let machine = Machine::new(PAGES);
    let _link = machine.hand_over(&server.socket).unwrap();
    // The upper half of the snapshot is given back and used again, while the lower one is faulted in.
    let half = PAGES / 2;
    thread::scope(|scope| {
        let machine = &machine;
        scope.spawn(move || {
            for round in 0..20 {
                for start in (half..PAGES).step_by(32) {
                    machine.memory.discard(machine.at(start * PAGE), 32 * PAGE).unwrap();
                    for page in start..start + 32 {
                        assert_eq!(machine.read(page), 0, "page {page}, round {round}");
                    }
                    machine.memory.write(machine.at(start * PAGE), 99);
                }
            }
        });
        for stride in [1, 11] {
            scope.spawn(move || {
                for step in 0..half {
                    let page = step * stride % half;
                    assert_eq!(machine.read(page), value(page), "page {page}");
                }
            });
        }
        // Touches what is given back meanwhile: it finds the snapshot's bytes, zeros, or what was written.
        scope.spawn(move || {
            for page in half..PAGES {
                let found = machine.memory.read(machine.at(page * PAGE) + 5);
                assert!(found == 0 || found == value(page), "page {page}: {found}");
            }
        });
    });
}

fn ahead() {
    let mut snapshot = Snapshot::new(PAGES);
    snapshot.order.working_set = vec![(0, 100), (900, 1000)];
    let server = Server::of(&snapshot);
    let machine = Machine::new(PAGES);
    let _link = machine.hand_over(&server.socket).unwrap();
    let expected = |page| !(100..900).contains(&page);
    // The harness's deadline is the only one.
    while !(0..PAGES).all(|page| machine.memory.has(machine.at(page * PAGE)).unwrap() == expected(page)) {
        thread::yield_now();
    }
    assert!((0..PAGES).all(|page| machine.read(page) == value(page)));
}

fn huge() {
    let machine = Machine::huge(4).unwrap();
    let pages = machine.memory.length() / PAGE;
    let snapshot = Snapshot::new(pages);
    let server = Server::of(&snapshot);
    let _link = machine.hand_over(&server.socket).unwrap();
    assert!((0..pages).all(|page| machine.read(page) == value(page)));
}
