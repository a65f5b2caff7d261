//! The one place that waits for children: PID 1's own, and those whose parents have died.

use fcvm_proto::message::Exit;
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How many ends of processes that nobody has asked for yet are remembered.
const REMEMBERED: usize = 1024;

/// Knows which process ended how. Clones are the same reaper.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reaper(Rc<RefCell<Table>>);

#[derive(Debug, Default)]
struct Table {
    waiting: HashMap<i32, oneshot::Sender<Exit>>,
    ended: VecDeque<(i32, Exit)>,
}

impl Reaper {
    /// Waits for the end of a child. A child is asked for once, at any time after it was made.
    pub(crate) fn ended(&self, pid: i32) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        let mut table = self.0.borrow_mut();
        match table.ended.iter().position(|(known, _)| *known == pid).and_then(|index| table.ended.remove(index)) {
            Some((_, exit)) => drop(sender.send(exit)),
            None => drop(table.waiting.insert(pid, sender)),
        }
        receiver
    }

    /// Reaps for ever.
    pub(crate) async fn run(&self, mut children: Signal) {
        loop {
            self.reap();
            children.recv().await;
        }
    }

    fn reap(&self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(exit) = exit(status) {
                self.note(pid.as_raw_nonzero().get(), exit);
            }
        }
    }

    fn note(&self, pid: i32, exit: Exit) {
        let mut table = self.0.borrow_mut();
        match table.waiting.remove(&pid) {
            Some(waiter) => drop(waiter.send(exit)),
            None => {
                if table.ended.len() == REMEMBERED {
                    table.ended.pop_front();
                }
                table.ended.push_back((pid, exit));
            }
        }
    }
}

/// Subscribes to the deaths of children; before the first child is made.
pub(crate) fn deaths() -> std::io::Result<Signal> {
    signal(SignalKind::child())
}

fn exit(status: WaitStatus) -> Option<Exit> {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code as u8)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_comes_before_the_question_is_remembered() {
        let reaper = Reaper::default();
        reaper.note(7, Exit::Code(3));
        assert_eq!(reaper.ended(7).try_recv(), Ok(Exit::Code(3)));
    }

    #[test]
    fn what_nobody_asks_for_takes_bounded_memory() {
        let reaper = Reaper::default();
        (0..5000).for_each(|pid| reaper.note(pid, Exit::Code(0)));
        assert_eq!(reaper.0.borrow().ended.len(), REMEMBERED);
    }
}
