//! A machine whose pages a server brings ends with that server: when the connection does, and when the server stands still,
//! as a process does that was stopped, or one whose disk does not answer.
//!
//! An owner that stood still itself, with its server or alone, blames nobody: it counts how often it has looked.

use fcvm_pager::{Link, PULSE};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the server is asked whether it goes on.
const PERIOD: Duration = Duration::from_secs(1);

/// How many times without an answer are too many. A busy host, or a slow disk, takes a few seconds at times.
const MOST_UNANSWERED: u32 = 10;

/// The most that a server says at the end, in bytes.
const LAST_WORDS: usize = 4096;

/// A machine that ends with its page server.
#[derive(Debug)]
pub(crate) struct Supervised {
    lost: Arc<OnceLock<String>>,
    watch: JoinHandle<()>,
}

impl Supervised {
    /// Watches the server of the monitor that this pidfd is of.
    pub(super) fn new(link: Link, monitor: OwnedFd) -> io::Result<Self> {
        let stream = link.into_stream();
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        let lost = Arc::new(OnceLock::new());
        let watch = tokio::spawn(watch(stream, monitor, Arc::clone(&lost)));
        Ok(Self { lost, watch })
    }

    /// Says why the machine lost its pages, if it did.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Waits until the server serves no more, and ends the monitor. A server also hangs up on a monitor that has ended: then
/// there is nothing to end, and nothing was lost.
async fn watch(stream: UnixStream, monitor: OwnedFd, lost: Arc<OnceLock<String>>) {
    let reason = end(stream).await;
    if has_ended(&monitor) {
        return;
    }
    tracing::warn!(reason, "a machine lost its pages");
    let _ = lost.set(reason);
    // One that has ended in this moment needs no signal.
    let _ = rustix::process::pidfd_send_signal(&monitor, Signal::KILL);
}

/// Waits for the end of a service, and says how it was. An error is an end.
async fn end(mut stream: UnixStream) -> String {
    let mut looks = looks();
    let (mut last_words, mut unanswered) = (Vec::new(), 0);
    loop {
        let mut bytes = [0; 64];
        tokio::select! {
            biased;
            read = stream.read(&mut bytes) => match read {
                Ok(count @ 1..) if last_words.len() < LAST_WORDS => {
                    unanswered = 0;
                    last_words.extend(bytes[..count].iter().filter(|byte| **byte != PULSE));
                }
                _ => return Link::reason(&last_words),
            },
            _ = looks.tick() => {
                if unanswered >= MOST_UNANSWERED {
                    return format!("its page server has not answered for {} s", (PERIOD * unanswered).as_secs());
                }
                unanswered += 1;
                // To one that is gone nothing can be said; what it said last is to be read.
                let _ = stream.write_all(&[PULSE]).await;
            }
        }
    }
}

/// However late a look is, the next one comes a whole period later.
fn looks() -> Interval {
    let mut looks = interval(PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

fn has_ended(monitor: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(monitor, PollFlags::IN)];
    matches!(rustix::event::poll(&mut fds, Some(&Timespec::default())), Ok(1..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_answers_goes_on_and_one_that_does_not_is_given_up() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ended = tokio::spawn(end(ours));
        let mut asked = [0];
        for _ in 0..100 {
            theirs.read_exact(&mut asked).await.unwrap();
            theirs.write_all(&asked).await.unwrap();
        }
        assert!(!ended.is_finished());
        // Stopped: its end of the connection is there, and nobody at it.
        assert_eq!(ended.await.unwrap(), "its page server has not answered for 10 s");
        drop(theirs);
    }

    #[tokio::test]
    async fn what_a_server_says_at_the_end_is_told() {
        for (words, reason) in [
            (&b"\n\n"[..], "its page server ended"),
            (&b"\n{\"failed\":\"no page\"}\n"[..], "its page server gave up: no page"),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(words).await.unwrap();
            drop(theirs);
            assert_eq!(end(ours).await, reason);
        }
    }
}
