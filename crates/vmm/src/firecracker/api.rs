//! Firecracker's API: HTTP over a socket, one call after the other.
//!
//! An answer says 204, or 200 with JSON, or an error with a `fault_message`. Any other error means that the two sides no
//! longer agree on where a request begins: the connection is given up, and the next call makes another one. What answers
//! may be a monitor that a guest broke out of, so answers are bounded.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::fs::inotify;
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;

/// The longest answer that is read, in bytes. That to `GET /vm/config` has a few thousand.
const LONGEST: usize = 1 << 20;

/// How long a call may take. Firecracker itself gives up after 30 s when a processor does not stop.
const PATIENCE: Duration = Duration::from_secs(35);

/// Between two attempts to reach a socket that is not listened to yet.
const PAUSE: Duration = Duration::from_millis(1);

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Option<Value>,
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Patch,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), body: Some(body) }
    }

    pub(super) fn get(path: &str) -> Self {
        Self { method: Method::Get, path: path.to_owned(), body: None }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        Request::builder()
            .method(self.method.name())
            .uri(&self.path)
            .header("Host", "localhost")
            .header("Accept", "application/json")
            .body(Full::new(body.into()))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.name(), self.path)
    }
}

/// How a call fails.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The connection ended, most likely with Firecracker.
    #[error("Firecracker closed its API connection")]
    Closed,
    /// The socket is there but cannot be reached.
    #[error("reach Firecracker's API socket")]
    Connect(#[source] io::Error),
    /// No answer came.
    #[error("Firecracker did not answer {call} within {} s", PATIENCE.as_secs())]
    Silent {
        /// Method and path.
        call: String,
    },
    /// Firecracker refused the call.
    #[error("Firecracker refused {call}: {reason}")]
    Refused {
        /// Method and path.
        call: String,
        /// Firecracker's sentence.
        reason: String,
    },
}

/// A client.
#[derive(Debug)]
pub(super) struct Api {
    socket: PathBuf,
    /// None while a call is under way, and when the last one left the connection in doubt.
    connection: tokio::sync::Mutex<Option<Connection>>,
}

type Connection = SendRequest<Full<Bytes>>;

impl Api {
    /// Makes a client of a socket, which need not be there yet.
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), connection: tokio::sync::Mutex::default() }
    }

    /// Waits until the socket can be reached.
    pub(super) async fn wait(&self) -> Result<(), ApiError> {
        let mut connection = self.connection.lock().await;
        let mut names = names_made_beside(&self.socket).map_err(ApiError::Connect)?;
        loop {
            match self.connect().await {
                Ok(reached) => {
                    *connection = Some(reached);
                    return Ok(());
                }
                // It has its name, and is listened to in a moment.
                Err(ApiError::Closed) if self.socket.exists() => tokio::time::sleep(PAUSE).await,
                Err(ApiError::Closed) => {
                    names.read(&mut [0; 512]).await.map_err(ApiError::Connect)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes a call and returns its answer.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, ApiError> {
        let mut kept = self.connection.lock().await;
        // A call that is dropped on its way leaves none.
        let connection = kept.take();
        let exchange = async {
            let mut connection = match connection {
                Some(connection) if !connection.is_closed() => connection,
                _ => self.connect().await?,
            };
            let outcome = exchange(&mut connection, call).await?;
            Ok((connection, outcome))
        };
        let exchanged = tokio::time::timeout(PATIENCE, exchange).await;
        let (connection, outcome) = exchanged.map_err(|_| ApiError::Silent { call: call.to_string() })??;
        match outcome {
            Outcome::Answer(answer) => {
                *kept = Some(connection);
                Ok(answer)
            }
            Outcome::Fault(reason) => {
                *kept = Some(connection);
                Err(ApiError::Refused { call: call.to_string(), reason })
            }
            Outcome::Doubt(reason) => Err(ApiError::Refused { call: call.to_string(), reason }),
        }
    }

    async fn connect(&self) -> Result<Connection, ApiError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            // Before Firecracker listens, and after its end.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ApiError::Closed,
            _ => ApiError::Connect(error),
        })?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ApiError::Closed)?;
        // It ends with the connection: when the sender is dropped, or the monitor ends.
        tokio::spawn(driver);
        Ok(sender)
    }
}

/// What can be read when a name was made in the directory of a path.
fn names_made_beside(path: &Path) -> io::Result<pipe::Receiver> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let changes = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&changes, directory, inotify::WatchFlags::CREATE)?;
    pipe::Receiver::from_file_unchecked(changes.into())
}

/// What became of a call.
enum Outcome {
    Answer(Value),
    Fault(String),
    /// An error that says nothing of the call itself.
    Doubt(String),
}

async fn exchange(connection: &mut Connection, call: &Call) -> Result<Outcome, ApiError> {
    let request = call.request().expect("our paths and names are valid");
    let answer = connection.send_request(request).await.map_err(|_| ApiError::Closed)?;
    judge(answer).await
}

async fn judge(answer: Response<Incoming>) -> Result<Outcome, ApiError> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await.map_err(|_| ApiError::Closed)?.to_bytes();
    let value: Option<Value> = serde_json::from_slice(&body).ok();
    if status.is_success() {
        return Ok(Outcome::Answer(value.unwrap_or_default()));
    }
    Ok(match value.as_ref().and_then(|value| value["fault_message"].as_str()) {
        Some(fault) => Outcome::Fault(in_one_line(fault)),
        None => Outcome::Doubt(in_one_line(&format!("{status}: {}", String::from_utf8_lossy(&body)))),
    })
}

fn in_one_line(text: &str) -> String {
    text.split(char::is_control).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
