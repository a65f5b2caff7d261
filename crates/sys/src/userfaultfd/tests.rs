//! Against the kernel, with memory of this process.

use super::*;
use crate::mapping::{HUGE_PAGE, MappedFile, PageSize};
use rustix::event::{PollFd, PollFlags};
use std::os::unix::fs::FileExt;
use std::thread;

const PAGE: u64 = 4096;

/// Memory that has no page yet; none, said aloud, where this user may not have it.
fn watched(pages: u64) -> Option<(Anonymous, Userfaultfd)> {
    let memory = Anonymous::new(pages * PAGE, PageSize::Base).unwrap();
    match Userfaultfd::new() {
        Ok(watcher) => {
            watcher.register(&memory).unwrap();
            Some((memory, watcher))
        }
        Err(error) => {
            eprintln!("SKIPPED: this host gives no userfaultfd: {error}");
            None
        }
    }
}

fn next(watcher: &Userfaultfd) -> Event {
    let mut events = Vec::new();
    while events.is_empty() {
        rustix::event::poll(&mut [PollFd::new(watcher, PollFlags::IN)], None).unwrap();
        watcher.read(&mut events).unwrap();
    }
    assert_eq!(events.len(), 1);
    events[0]
}

#[test]
fn a_thread_that_touches_a_page_waits_until_it_is_there() {
    let Some((memory, watcher)) = watched(4) else { return };
    let file = File::from(crate::memfd::create("test", 2 * PAGE).unwrap());
    file.write_all_at(&[7; PAGE as usize], PAGE).unwrap();
    let mapped = MappedFile::of(&file, 2 * PAGE).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(|| (memory.read(PAGE + 5), memory.read(3 * PAGE)));
        assert_eq!(next(&watcher), Event::Fault(memory.address() + PAGE));
        let placed = watcher.copy(memory.address() + PAGE, mapped.part(PAGE, PAGE).unwrap());
        assert!(placed.bytes == PAGE && placed.stopped.is_none(), "{placed:?}");
        assert_eq!(next(&watcher), Event::Fault(memory.address() + 3 * PAGE));
        let placed = watcher.zero(memory.address() + 3 * PAGE, PAGE);
        assert!(placed.bytes == PAGE && placed.stopped.is_none(), "{placed:?}");
        assert_eq!(reader.join().unwrap(), (7, 0));
    });
}

#[test]
fn a_page_that_is_there_is_not_put_twice_and_the_pages_before_it_are() {
    let Some((memory, watcher)) = watched(4) else { return };
    let bytes = [9; 4 * PAGE as usize];
    assert_eq!(watcher.copy(memory.address() + 2 * PAGE, Part::from(&bytes[..PAGE as usize])).bytes, PAGE);
    let placed = watcher.copy(memory.address(), Part::from(&bytes[..]));
    assert!(placed.bytes == 2 * PAGE && matches!(placed.stopped, Some(Stopped::Again)), "{placed:?}");
    let rest = watcher.copy(memory.address() + placed.bytes, Part::from(&bytes[..]).after(placed.bytes));
    assert!(rest.bytes == 0 && matches!(rest.stopped, Some(Stopped::Exists)), "{rest:?}");
    watcher.wake(memory.address() + 2 * PAGE, PAGE).unwrap();
}

#[test]
fn nothing_is_put_before_the_event_of_what_was_given_back_is_read() {
    let Some((memory, watcher)) = watched(2) else { return };
    assert_eq!(watcher.zero(memory.address(), PAGE).bytes, PAGE);
    thread::scope(|scope| {
        let discarded = scope.spawn(|| memory.discard(0, PAGE));
        rustix::event::poll(&mut [PollFd::new(&watcher, PollFlags::IN)], None).unwrap();
        let refused = watcher.zero(memory.address() + PAGE, PAGE);
        assert!(refused.bytes == 0 && matches!(refused.stopped, Some(Stopped::Again)), "{refused:?}");
        assert_eq!(next(&watcher), Event::Removed { start: memory.address(), end: memory.address() + PAGE });
        discarded.join().unwrap().unwrap();
    });
    assert_eq!(watcher.zero(memory.address(), 2 * PAGE).bytes, 2 * PAGE);
}

#[test]
fn a_file_that_was_cut_short_is_an_error_and_no_signal() {
    let Some((memory, watcher)) = watched(1) else { return };
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE).unwrap();
    let mapped = MappedFile::of(&file, PAGE).unwrap();
    file.set_len(0).unwrap();
    let placed = watcher.copy(memory.address(), mapped.part(0, PAGE).unwrap());
    assert!(placed.bytes == 0 && matches!(placed.stopped, Some(Stopped::Failed(_))), "{placed:?}");
}

#[test]
fn another_descriptor_is_refused_by_its_name() {
    let null = File::open("/dev/null").unwrap();
    let refused = Userfaultfd::received(null.into()).unwrap_err();
    assert!(refused.to_string().contains("/dev/null"), "{refused}");
    if let Some((_, watcher)) = watched(1) {
        Userfaultfd::received(watcher.into()).unwrap();
    }
}

#[test]
fn pages_that_are_not_watched_are_an_error() {
    let Some((_, watcher)) = watched(1) else { return };
    let elsewhere = Anonymous::new(PAGE, PageSize::Base).unwrap();
    let placed = watcher.zero(elsewhere.address(), PAGE);
    assert!(matches!(placed.stopped, Some(Stopped::Failed(_))), "{placed:?}");
}

#[test]
fn a_huge_page_is_put_whole() {
    let Ok(memory) = Anonymous::new(HUGE_PAGE, PageSize::Huge) else {
        eprintln!("SKIPPED: this host has no huge page to spare");
        return;
    };
    let Ok(watcher) = Userfaultfd::new() else { return };
    watcher.register(&memory).unwrap();
    let placed = watcher.copy(memory.address(), Part::from(&vec![3; HUGE_PAGE as usize][..]));
    assert!(placed.bytes == HUGE_PAGE && placed.stopped.is_none(), "{placed:?}");
    assert_eq!(memory.read(HUGE_PAGE - 1), 3);
}
