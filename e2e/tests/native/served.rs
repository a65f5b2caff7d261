//! Machines whose pages a server brings.

use crate::block_on;
use fcvm_e2e::native::{Guest, Native, Then, passes, passes_or_ends, save};
use fcvm_spec::PageSize;
use fcvm_vmm::{Error, Exit};
use rustix::process::{Pid, Signal};
use std::fs::File;

pub(crate) const TESTS: &[crate::Test] = &[
    ("the_clones_of_a_served_snapshot_find_all_of_their_memory", many),
    ("a_served_clone_is_saved_and_what_came_of_it_is_served_too", saved_again),
    ("a_working_set_is_recorded_and_put_ahead", working_set),
    ("a_killed_server_ends_its_clones_with_a_reason", killed_server),
    ("a_server_that_stands_still_ends_its_clones_with_a_reason", stopped_server),
    ("a_server_that_cannot_read_the_snapshot_ends_the_clone", cut_short),
    ("a_killed_clone_leaves_the_server_to_the_others", killed_clone),
    ("a_clone_without_its_server_does_not_start", absent),
];

/// Those that want huge pages of the host, and how many.
pub(crate) const HUGE: &[crate::Test] = &[("a_machine_of_huge_pages_is_saved_and_its_clones_are_served", huge)];
pub(crate) const HUGE_PAGES: u64 = GUEST.memory as u64 / 2;

const GUEST: Guest =
    Guest { memory: 64, pages: PageSize::Base, reach: 64, step: 4096, writes: true, then: Then::Again };

fn many(native: &Native) {
    block_on(async {
        let directories = [(); 7].map(|()| tempfile::tempdir().unwrap());
        let saved = native.saved(&GUEST, directories[0].path()).await;
        let server = native.serve(&saved, Vec::new(), directories[0].path());
        let mut clones = Vec::new();
        for directory in &directories[1..] {
            clones.push(native.restore(&GUEST, (&saved, Some(&server)), directory.path()).await.unwrap());
        }
        for clone in &clones {
            passes(clone, 2).await;
        }
    });
}

fn saved_again(native: &Native) {
    block_on(async {
        let directories = [(); 4].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third, fourth] = directories.each_ref().map(tempfile::TempDir::path);
        let saved = native.saved(&GUEST, first).await;
        let server = native.serve(&saved, Vec::new(), first);
        let child = native.restore(&GUEST, (&saved, Some(&server)), second).await.unwrap();
        passes(&child, 1).await;
        let of_child = save(&child, Some(&saved), second).await;
        passes(&child, 2).await;
        drop(server);
        // Before this one has touched everything it is saved once more.
        let server = native.serve(&of_child, Vec::new(), second);
        let grandchild = native.restore(&GUEST, (&of_child, Some(&server)), third).await.unwrap();
        let of_grandchild = save(&grandchild, Some(&of_child), third).await;
        passes(&grandchild, 2).await;
        for server in [None, Some(native.serve(&of_grandchild, Vec::new(), third))] {
            let last = native.restore(&GUEST, (&of_grandchild, server.as_ref()), fourth).await.unwrap();
            passes(&last, 2).await;
        }
    });
}

fn working_set(native: &Native) {
    block_on(async {
        let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third] = directories.each_ref().map(tempfile::TempDir::path);
        let saved = native.saved(&GUEST, first).await;
        let server = native.serve(&saved, Vec::new(), first);
        let child = native.restore(&GUEST, (&saved, Some(&server)), second).await.unwrap();
        // The first one had begun before the machine was saved.
        passes(&child, 2).await;
        let touched = child.touched_memory().unwrap();
        let pages = |parts: &[(u64, u64)]| parts.iter().map(|part| part.1).sum::<u64>();
        assert!(pages(&touched) >= GUEST.places(), "{touched:?}");
        drop((child, server));
        let ahead = native.serve(&saved, touched.clone(), third);
        let clone = native.restore(&GUEST, (&saved, Some(&ahead)), third).await.unwrap();
        // Nothing runs from here on, so all that comes is put ahead. The harness's deadline is the only one.
        clone.pause().await.unwrap();
        while pages(&clone.touched_memory().unwrap()) < pages(&touched) {
            tokio::task::yield_now().await;
        }
        clone.resume().await.unwrap();
        passes(&clone, 2).await;
    });
}

fn killed_server(native: &Native) {
    block_on(async {
        let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let saved = native.saved(&GUEST, directories[0].path()).await;
        let server = native.serve(&saved, Vec::new(), directories[0].path());
        let mut clones = Vec::new();
        for directory in &directories[1..] {
            clones.push(native.restore(&GUEST, (&saved, Some(&server)), directory.path()).await.unwrap());
        }
        server.process.kill().unwrap();
        for clone in &mut clones {
            let exit = clone.wait().await;
            assert_eq!(exit.to_string(), "was ended because its page server ended");
        }
    });
}

fn stopped_server(native: &Native) {
    block_on(async {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let saved = native.saved(&GUEST, first.path()).await;
        let server = native.serve(&saved, Vec::new(), first.path());
        let mut clone = native.restore(&GUEST, (&saved, Some(&server)), second.path()).await.unwrap();
        let process = Pid::from_raw(server.process.pid().cast_signed()).unwrap();
        rustix::process::kill_process(process, Signal::STOP).unwrap();
        let exit = clone.wait().await;
        assert_eq!(exit.to_string(), "was ended because its page server has not answered for 10 s");
    });
}

fn cut_short(native: &Native) {
    block_on(async {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let guest = Guest { memory: 256, reach: 256, ..GUEST };
        let saved = native.saved(&guest, first.path()).await;
        let server = native.serve(&saved, Vec::new(), first.path());
        let mut clone = native.restore(&guest, (&saved, Some(&server)), second.path()).await.unwrap();
        File::options().write(true).open(&saved.memory).unwrap().set_len(16 << 20).unwrap();
        let exit = passes_or_ends(&mut clone, 3).await;
        let Some(Exit::PagesLost(reason)) = exit else { panic!("{exit:?}") };
        assert!(reason.contains("gave up") && reason.contains("cannot be put"), "{reason}");
    });
}

fn killed_clone(native: &Native) {
    block_on(async {
        let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third] = directories.each_ref().map(tempfile::TempDir::path);
        let saved = native.saved(&GUEST, first).await;
        let server = native.serve(&saved, Vec::new(), first);
        let mut one = native.restore(&GUEST, (&saved, Some(&server)), second).await.unwrap();
        let other = native.restore(&GUEST, (&saved, Some(&server)), third).await.unwrap();
        assert_eq!(one.kill().await, Exit::Killed);
        passes(&other, 2).await;
    });
}

fn absent(native: &Native) {
    block_on(async {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let saved = native.saved(&GUEST, first.path()).await;
        let mut server = native.serve(&saved, Vec::new(), first.path());
        server.process.kill().unwrap();
        server.process.wait().unwrap();
        let refused = native.restore(&GUEST, (&saved, Some(&server)), second.path()).await.unwrap_err();
        assert!(matches!(refused, Error::Pager { .. }), "{refused:?}");
    });
}

fn huge(native: &Native) {
    block_on(async {
        let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [first, second, third] = directories.each_ref().map(tempfile::TempDir::path);
        let guest = Guest { pages: PageSize::Huge, ..GUEST };
        let saved = native.saved(&guest, first).await;
        let mapped = native.restore(&guest, (&saved, None), second).await.unwrap_err();
        assert!(mapped.to_string().contains("--pid"), "{mapped}");
        let server = native.serve(&saved, Vec::new(), first);
        let child = native.restore(&guest, (&saved, Some(&server)), second).await.unwrap();
        passes(&child, 2).await;
        let of_child = save(&child, Some(&saved), second).await;
        drop((child, server));
        let server = native.serve(&of_child, Vec::new(), second);
        let grandchild = native.restore(&guest, (&of_child, Some(&server)), third).await.unwrap();
        passes(&grandchild, 2).await;
    });
}
