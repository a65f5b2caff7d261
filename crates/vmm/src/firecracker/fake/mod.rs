//! A Firecracker that is none: its API with the checks, the order, the errors and the ends that were seen of the real one.
//!
//! [`model`] says what is answered, this file speaks HTTP and ends as a process would: it listens no more, closes what it had,
//! and leaves the name of its socket. [`session`] holds it against the real one.

mod faults;
mod model;
mod session;

use super::api::Api;
use model::{Model, Reply, Then};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Bodies above this are refused, in bytes.
const LARGEST_BODY: usize = 51200;

/// A fake that runs.
pub(super) struct Fake {
    directory: tempfile::TempDir,
    server: JoinHandle<Model>,
}

impl Fake {
    pub(super) fn start() -> Self {
        Self::fated(Vec::new())
    }

    /// One to which this happens at these calls.
    fn fated(fates: Vec<(&'static str, Then)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("api.sock")).unwrap();
        let model = Model::new(directory.path(), fates);
        Self { directory, server: tokio::spawn(serve(listener, model)) }
    }

    /// The directory that it works in, as the real one does in its workspace.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory().join("api.sock")
    }

    pub(super) fn api(&self) -> Api {
        Api::new(&self.socket())
    }

    /// Waits for its end, and returns its exit code.
    pub(super) async fn ended(&mut self) -> i32 {
        let model = (&mut self.server).await.unwrap();
        model.exit.expect("it ended by itself")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One connection after the other, as the real one is used.
async fn serve(listener: UnixListener, mut model: Model) -> Model {
    while model.exit.is_none() {
        let (mut stream, _) = listener.accept().await.unwrap();
        converse(&mut stream, &mut model).await;
    }
    model
}

async fn converse(stream: &mut UnixStream, model: &mut Model) {
    while let Some(request) = Request::read(stream).await {
        let Reply { status, body, then } = model.reply(&request);
        match then {
            Then::Silence => std::future::pending().await,
            Then::Crash(code) => {
                model.exit = Some(code);
                return;
            }
            Then::GoOn | Then::Exit(_) => {}
        }
        let head = match status {
            204 => "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n".to_owned(),
            _ => format!(
                "HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ),
        };
        // A client may have heard enough.
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        if let Then::Exit(code) = then {
            model.exit = Some(code);
            return;
        }
    }
}

/// A request as it came.
pub(super) struct Request {
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Request {
    async fn read(stream: &mut UnixStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let (head, length) = loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
            bytes.extend_from_slice(&part[..count]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            bytes.drain(..end + 4);
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (head, length.unwrap_or(0));
        };
        while bytes.len() < length {
            stream.read_buf(&mut bytes).await.ok().filter(|count| *count > 0)?;
        }
        let mut words = head.split(' ').map(str::to_owned);
        Some(Self { method: words.next()?, path: words.next()?, body: bytes })
    }
}
