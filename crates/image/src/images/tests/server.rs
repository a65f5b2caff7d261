//! A registry of a few lines that misbehaves as it is told.

use super::fixture::Sample;
use crate::Digest;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// How the server treats blobs of layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// As it should.
    Good,
    /// Each answer breaks off after so many bytes.
    BreakAfter(usize),
    /// The first answer breaks off after so many bytes, and ranges are not known.
    WithoutRanges(usize),
    /// The last byte is another one.
    Corrupt,
    /// More than there is.
    TooLong,
    /// As it should, with a token.
    Token,
}

pub(super) struct Server {
    pub(super) host: String,
    /// What was asked for: path and range.
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

struct State {
    blobs: HashMap<String, Vec<u8>>,
    layers: Vec<String>,
    manifest: Vec<u8>,
    mood: Mood,
    answered: AtomicUsize,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves an image as any name and tag.
    pub(super) fn new(sample: &Sample, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let digest = |blob: &[u8]| Digest::of(blob).to_string();
        let state = State {
            blobs: sample.blobs().into_iter().map(|blob| (digest(blob), blob.to_vec())).collect(),
            layers: sample.layers.iter().map(|blob| digest(blob)).collect(),
            manifest: sample.manifest.clone(),
            mood,
            answered: AtomicUsize::new(0),
            requests: requests.clone(),
        };
        let accepting = listener.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            let state = Arc::new(state);
            let mut workers = Vec::new();
            for stream in accepting.incoming() {
                let Ok(stream) = stream else { break };
                if state.requests.lock().unwrap().last().is_some_and(|last| last == "stop") {
                    break;
                }
                let state = state.clone();
                workers.push(std::thread::spawn(move || drop(state.serve(&stream))));
            }
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
        Self { host, requests, listener, thread: Some(thread) }
    }

    /// Which requests for layers came, with their ranges.
    pub(super) fn layer_requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.contains("/blobs/")).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.requests.lock().unwrap().push("stop".into());
        drop(TcpStream::connect(self.listener.local_addr().unwrap()));
        self.thread.take().unwrap().join().unwrap();
    }
}

impl State {
    /// Answers one request and closes.
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let Some(first) = lines.next() else { return Ok(()) };
        let first = first?;
        let (mut range, mut authorization) = (None, String::new());
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("authorization: ") {
                authorization = value.to_owned();
            }
            if let Some(from) = line.strip_prefix("range: bytes=") {
                range = from.trim_end_matches('-').parse::<usize>().ok();
            }
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        self.requests.lock().unwrap().push(format!("{path} {range:?}"));
        let name = path.rsplit('/').next().unwrap_or_default();
        if path.starts_with("/token") {
            // user:password in base64, in lower case.
            let token = if authorization == "basic dxnlcjpwyxnzd29yza==" {
                r#"{"token":"good"}"#
            } else {
                r#"{"token":"bad"}"#
            };
            return answer(stream, "200 OK", token.as_bytes(), token.len(), "");
        }
        if self.mood == Mood::Token && authorization != "bearer good" {
            let header =
                format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"\r\n", stream.local_addr()?);
            return answer(stream, "401 Unauthorized", b"", 0, &header);
        }
        if path.contains("/manifests/") {
            return answer(stream, "200 OK", &self.manifest, self.manifest.len(), "");
        }
        let Some(blob) = self.blobs.get(name) else { return answer(stream, "404 Not Found", b"", 0, "") };
        if !self.layers.iter().any(|layer| layer == name) {
            return answer(stream, "200 OK", blob, blob.len(), "");
        }
        self.layer(stream, blob.clone(), range)
    }

    fn layer(&self, stream: &TcpStream, mut blob: Vec<u8>, range: Option<usize>) -> std::io::Result<()> {
        let first = self.answered.fetch_add(1, Ordering::SeqCst) == 0;
        let (from, whole) = (range.unwrap_or(0).min(blob.len()), blob.len());
        let partial = format!("Content-Range: bytes {from}-{}/{whole}\r\n", whole - 1);
        let (status, header) = if range.is_some() { ("206 Partial Content", &*partial) } else { ("200 OK", "") };
        match self.mood {
            Mood::Good | Mood::Token => answer(stream, status, &blob[from..], whole - from, header),
            Mood::BreakAfter(count) => {
                let end = whole.min(from + count);
                answer(stream, status, &blob[from..end], whole - from, header)
            }
            Mood::WithoutRanges(count) if first => answer(stream, "200 OK", &blob[..count], whole, ""),
            Mood::WithoutRanges(_) => answer(stream, "200 OK", &blob, whole, ""),
            Mood::Corrupt => {
                blob[whole - 1] ^= 1;
                answer(stream, "200 OK", &blob, whole, "")
            }
            Mood::TooLong => {
                blob.extend([0; 100]);
                answer(stream, "200 OK", &blob, whole + 100, "")
            }
        }
    }
}

fn answer(mut stream: &TcpStream, status: &str, body: &[u8], length: usize, header: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{header}Connection: close\r\n\r\n")?;
    stream.write_all(body)
}
