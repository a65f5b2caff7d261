//! QEMU's control connection: JSON lines, answers matched to questions by id, events folded into what they mean.
//!
//! The format is QEMU's `docs/interop/qmp-spec.txt`. A guest that broke out of its machine speaks here, so lines are
//! bounded and nothing of what comes is trusted to be there.

use crate::Exit;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

/// The longest line that is read, in bytes. The answers to our commands have a few hundred.
const LONGEST_LINE: u64 = 256 << 10;

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The signal by which someone else most likely asked QEMU to end.
const SIGTERM: i32 = 15;

/// How a command to QEMU fails.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// The connection ended, most likely with QEMU.
    #[error("QEMU closed its control connection")]
    Closed,
    /// The connection broke.
    #[error("write to QEMU's control connection")]
    Write(#[source] io::Error),
    /// No answer came.
    #[error("QEMU did not answer {command} within {} s", PATIENCE.as_secs())]
    Silent {
        /// The command.
        command: &'static str,
    },
    /// QEMU refused the command.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// The command.
        command: &'static str,
        /// QEMU's sentence.
        reason: String,
    },
}

/// A client.
#[derive(Debug)]
pub(crate) struct Qmp {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    next: AtomicU64,
    heard: Arc<Heard>,
}

/// What the reader shares with the client.
#[derive(Debug, Default)]
struct Heard {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
    version: Option<String>,
    shutdown: Option<Exit>,
    disk_failed: bool,
}

type Answer = Result<Value, String>;

/// Any line of QEMU's: a greeting, an answer or an event.
#[derive(Debug, Deserialize)]
struct Line {
    id: Option<u64>,
    #[serde(rename = "return")]
    answer: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
    #[serde(default)]
    data: Value,
    /// The first line of all.
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

impl Qmp {
    /// Makes a client of a connection, and the reader that has to run as long as it.
    pub(crate) fn connect(stream: UnixStream) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (reader, writer) = stream.into_split();
        let heard = Arc::new(Heard::default());
        let qmp = Self { writer: writer.into(), next: AtomicU64::new(1), heard: Arc::clone(&heard) };
        (qmp, listen(reader, heard))
    }

    /// Leaves the mode in which QEMU takes no other command. The greeting that comes before needs no answer.
    pub(crate) async fn negotiate(&self) -> Result<(), QmpError> {
        self.execute("qmp_capabilities").await.map(drop)
    }

    /// Executes a command without arguments and returns its answer.
    pub(crate) async fn execute(&self, command: &'static str) -> Result<Value, QmpError> {
        self.execute_with(command, &json!({})).await
    }

    /// Executes a command and returns its answer.
    pub(crate) async fn execute_with(&self, command: &'static str, arguments: &Value) -> Result<Value, QmpError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let answer = self.heard.expect(id)?;
        let _forget = Forget { id, heard: &self.heard };
        let mut line = json!({ "execute": command, "arguments": arguments, "id": id }).to_string();
        line.push('\n');
        let exchange = async {
            self.writer.lock().await.write_all(line.as_bytes()).await.map_err(closed)?;
            answer.await.map_err(|_| QmpError::Closed)
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Err(_) => Err(QmpError::Silent { command }),
            Ok(Err(error)) => Err(error),
            Ok(Ok(answer)) => answer.map_err(|reason| QmpError::Refused { command, reason }),
        }
    }

    /// Returns QEMU's version once it has greeted, for example `7.2.22`.
    pub(crate) fn version(&self) -> Option<String> {
        self.heard.state().version.clone()
    }

    /// Returns why QEMU said that the machine ends, if it did.
    pub(crate) fn shutdown(&self) -> Option<Exit> {
        self.heard.state().shutdown.clone()
    }
}

fn closed(error: io::Error) -> QmpError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => QmpError::Closed,
        _ => QmpError::Write(error),
    }
}

/// A question whose asker went away is forgotten.
struct Forget<'a> {
    id: u64,
    heard: &'a Heard,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.heard.state().waiting.remove(&self.id);
    }
}

impl Heard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, id: u64) -> Result<oneshot::Receiver<Answer>, QmpError> {
        let mut state = self.state();
        if state.closed {
            return Err(QmpError::Closed);
        }
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(id, sender);
        Ok(receiver)
    }

    fn hear(&self, line: Line) {
        let mut state = self.state();
        if let Some(greeting) = &line.greeting {
            state.version = Some(version(greeting));
        }
        if let Some(event) = &line.event {
            state.note(event, &line.data);
        }
        let Some(asker) = line.id.and_then(|id| state.waiting.remove(&id)) else { return };
        let answer = match line.error {
            Some(refusal) => Err(refusal.desc),
            None => Ok(line.answer.unwrap_or_default()),
        };
        let _asker_is_gone = asker.send(answer);
    }
}

impl State {
    fn note(&mut self, event: &str, data: &Value) {
        match event {
            "SHUTDOWN" => self.shutdown = Some(exit(data["reason"].as_str().unwrap_or_default())),
            // One per failed write may come: the first says it all.
            "BLOCK_IO_ERROR" if !self.disk_failed => {
                self.disk_failed = true;
                let full = data["nospace"].as_bool().unwrap_or_default();
                tracing::warn!(full, "the host cannot keep what the guest writes to its disk");
            }
            _ => tracing::trace!(event, "QEMU said"),
        }
    }
}

fn version(greeting: &Value) -> String {
    let numbers = &greeting["version"]["qemu"];
    let number = |name: &str| numbers[name].as_u64().unwrap_or_default();
    format!("{}.{}.{}", number("major"), number("minor"), number("micro"))
}

/// Reads a `ShutdownCause` of QEMU's `qapi/run-state.json`.
fn exit(reason: &str) -> Exit {
    match reason {
        "guest-reset" | "subsystem-reset" | "guest-panic" => Exit::Reset,
        "host-qmp-quit" => Exit::Killed,
        // QEMU ends in good order then, and does not say which of the three that do this it was.
        "host-signal" => Exit::Signal(SIGTERM),
        _ => Exit::PoweredOff,
    }
}

/// Reads to the end of the connection; then nobody waits any more.
async fn listen(reader: OwnedReadHalf, heard: Arc<Heard>) {
    let mut reader = BufReader::new(reader);
    loop {
        match next_line(&mut reader).await {
            Ok(Some(line)) => heard.hear(line),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "QEMU's control connection broke");
                break;
            }
        }
    }
    let mut state = heard.state();
    state.closed = true;
    state.waiting.clear();
}

async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let count = reader.take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
    match (count, line.last()) {
        (0, _) => Ok(None),
        (_, Some(b'\n')) => Ok(Some(serde_json::from_slice(&line)?)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end")),
    }
}

#[cfg(test)]
mod tests;
