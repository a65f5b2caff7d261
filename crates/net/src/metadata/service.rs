//! The service's HTTP. Sentences, status codes and names of headers are Firecracker's, so that programs find what they know.

use super::Metadata;
use super::tokens::LONGEST;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 << 10;
/// How long a guest may take to send one.
const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN_PATH: &str = "/latest/api/token";
/// Each header has Firecracker's own name and the one of EC2.
const TTL: [&str; 2] = ["x-metadata-token-ttl-seconds", "x-aws-ec2-metadata-token-ttl-seconds"];
const TOKEN: [&str; 2] = ["x-metadata-token", "x-aws-ec2-metadata-token"];

type Answer = Response<Full<Bytes>>;

pub(super) async fn serve<C: AsyncRead + AsyncWrite + Unpin>(metadata: Metadata, connection: C) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&metadata, &request, Instant::now());
        async { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    // A client may have said all that it will say.
    server.half_close(true);
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(LONGEST_HEAD);
    if let Err(error) = server.serve_connection(TokioIo::new(connection), service).await {
        tracing::debug!(%error, "a question for metadata was not understood");
    }
}

fn answer<B>(metadata: &Metadata, request: &Request<B>, now: Instant) -> Answer {
    let path = request.uri().path();
    match *request.method() {
        Method::PUT if path == TOKEN_PATH => token(metadata, request.headers(), now),
        Method::GET => value(metadata, path, request.headers(), now),
        Method::PUT => missing(path),
        _ => with(text(StatusCode::METHOD_NOT_ALLOWED, "Not allowed HTTP method."), ALLOW.as_str(), "GET, PUT"),
    }
}

fn token(metadata: &Metadata, headers: &HeaderMap, now: Instant) -> Answer {
    // What was forwarded comes of a proxy in the guest, which anyone may ask.
    if headers.contains_key("x-forwarded-for") {
        return text(StatusCode::BAD_REQUEST, "Invalid header. Reason: X-Forwarded-For is not allowed.");
    }
    let Some((name, seconds)) = header(headers, &TTL) else {
        let words = "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or \
                     `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.";
        return text(StatusCode::BAD_REQUEST, words);
    };
    let Some(seconds) = seconds.parse().ok().filter(|seconds| (1..=LONGEST).contains(seconds)) else {
        let words = format!(
            "Invalid time to live value provided for token: {seconds}. Please provide a value between 1 and {LONGEST}."
        );
        return text(StatusCode::BAD_REQUEST, words);
    };
    match metadata.state().tokens.issue(seconds, now) {
        Ok(token) => with(text(StatusCode::OK, token), name, &seconds.to_string()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn value(metadata: &Metadata, path: &str, headers: &HeaderMap, now: Instant) -> Answer {
    let state = metadata.state();
    match header(headers, &TOKEN) {
        None => {
            let words = "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify \
                         the session token.";
            return text(StatusCode::UNAUTHORIZED, words);
        }
        Some((_, token)) if !state.tokens.is_good(token, now) => {
            return text(StatusCode::UNAUTHORIZED, "MMDS token not valid.");
        }
        Some(_) => {}
    }
    let Some(found) = state.tree.find(path) else { return missing(path) };
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/json") {
        with(text(StatusCode::OK, found.json()), CONTENT_TYPE.as_str(), "application/json")
    } else {
        text(StatusCode::OK, found.text())
    }
}

fn header<'h>(headers: &'h HeaderMap, names: &[&'static str; 2]) -> Option<(&'static str, &'h str)> {
    names.iter().find_map(|name| Some((*name, headers.get(*name)?.to_str().ok()?)))
}

fn missing(path: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("Resource not found: {path}."))
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.into())));
    *answer.status_mut() = status;
    with(answer, CONTENT_TYPE.as_str(), "text/plain")
}

fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    let value = value.parse().expect("our values are words");
    answer.headers_mut().insert(name, value);
    answer
}

#[cfg(test)]
mod tests;
