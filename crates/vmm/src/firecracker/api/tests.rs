//! The API's client against a server that says what the real one was seen to say.

use super::*;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// Answers each request with the next text; the connection ends after an answer that is no success.
async fn serve(listener: UnixListener, answers: Vec<String>) -> Vec<(usize, String)> {
    let mut heard = Vec::new();
    let mut answers = answers.into_iter().peekable();
    for connection in 0.. {
        if answers.peek().is_none() {
            break;
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Some(request) = request(&mut stream).await {
            heard.push((connection, request));
            let Some(answer) = answers.next() else { break };
            // A client may have heard enough.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
    heard
}

/// Reads a request; returns its first line and its body.
async fn request(stream: &mut tokio::net::UnixStream) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some(format!("{} {body}", head.lines().next().unwrap()).trim().to_owned());
        }
    }
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nServer: Firecracker API\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn no_content() -> String {
    "HTTP/1.1 204 \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n\r\n".to_owned()
}

fn put() -> Call {
    Call::new(Method::Put, "/entropy", json!({}))
}

async fn conversation(answers: &[String], calls: &[Call]) -> (Vec<Result<Value, ApiError>>, Vec<(usize, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let server = tokio::spawn(serve(UnixListener::bind(&path).unwrap(), answers.to_vec()));
    let api = Api::new(&path);
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(api.call(call).await);
    }
    drop(api);
    (outcomes, server.await.unwrap())
}

#[tokio::test]
async fn calls_go_over_one_connection_and_a_fault_does_not_end_it() {
    let fault = answer("400 ", r#"{"fault_message":"The kernel file cannot be opened:\nNo such file"}"#);
    let answers = [answer("200 ", r#"{"firecracker_version":"1.16.1"}"#), fault, no_content()];
    let calls = [Call::get("/version"), put(), Call::new(Method::Patch, "/vm", json!({ "state": "Paused" }))];
    let (outcomes, heard) = conversation(&answers, &calls).await;
    assert_eq!(outcomes[0].as_ref().unwrap()["firecracker_version"], "1.16.1");
    let refused = outcomes[1].as_ref().unwrap_err().to_string();
    assert_eq!(refused, "Firecracker refused PUT /entropy: The kernel file cannot be opened: No such file");
    assert_eq!(*outcomes[2].as_ref().unwrap(), Value::Null);
    let lines = ["GET /version HTTP/1.1", "PUT /entropy HTTP/1.1 {}", r#"PATCH /vm HTTP/1.1 {"state":"Paused"}"#];
    assert_eq!(heard, lines.map(|line| (0, line.to_owned())));
}

#[tokio::test]
async fn an_error_that_is_no_fault_costs_the_connection() {
    // Not JSON, as the real one says it: the line feed is raw.
    let poisoned =
        answer("400 ", "{ \"error\": \"Invalid header.\nAll previous unanswered requests will be dropped.\" }");
    let (outcomes, heard) = conversation(&[poisoned, no_content()], &[put(), put()]).await;
    let refused = outcomes[0].as_ref().unwrap_err().to_string();
    assert!(refused.contains("Invalid header. All previous"), "{refused}");
    assert!(outcomes[1].is_ok());
    assert_eq!(heard.iter().map(|(connection, _)| *connection).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let (outcomes, _) = conversation(&[answer("200 ", &"x".repeat(LONGEST + 1))], &[put()]).await;
    assert!(matches!(outcomes[0], Err(ApiError::Closed)), "{outcomes:?}");
}

#[tokio::test]
async fn what_does_not_listen_yet_is_waited_for_and_what_has_ended_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let api = Api::new(&path);
    assert!(matches!(api.call(&put()).await, Err(ApiError::Closed)));
    let later = async {
        tokio::task::yield_now().await;
        UnixListener::bind(&path).unwrap()
    };
    let (waited, listener) = tokio::join!(api.wait(), later);
    waited.unwrap();
    let server = tokio::spawn(serve(listener, vec![no_content()]));
    api.call(&put()).await.unwrap();
    drop(api);
    assert_eq!(server.await.unwrap().len(), 1);
}
