use super::*;
use crate::metadata::Tree;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn metadata() -> Metadata {
    let mut tree = Tree::default();
    tree.insert("latest/meta-data/role", "web").unwrap();
    Metadata::new(tree)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let request = Request::builder().method(method).uri(path);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

async fn read(answer: Answer) -> (u16, String) {
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn asked(metadata: &Metadata, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    read(answer(metadata, &request(method, path, headers), Instant::now())).await
}

#[tokio::test]
async fn a_value_is_had_with_a_token_by_either_name_of_the_headers() {
    for (ttl, name) in TTL.into_iter().zip(TOKEN) {
        let metadata = metadata();
        let (status, token) = asked(&metadata, "PUT", TOKEN_PATH, &[(ttl, "60")]).await;
        assert_eq!(status, 200);
        let get = |path| request("GET", path, &[(name, token.as_str())]);
        let at = |path, now| answer(&metadata, &get(path), now);
        let now = Instant::now();
        assert_eq!(read(at("/latest/meta-data/role", now)).await, (200, "web".to_owned()));
        assert_eq!(read(at("/latest/meta-data/", now)).await, (200, "role".to_owned()));
        assert_eq!(read(at("/latest/nothing", now)).await.0, 404);
        assert_eq!(read(at("/latest/meta-data/role", now + Duration::from_secs(61))).await.0, 401);
        let json = [(name, token.as_str()), ("accept", "application/json")];
        assert_eq!(
            asked(&metadata, "GET", "/latest", &json).await,
            (200, r#"{"meta-data":{"role":"web"}}"#.to_owned())
        );
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_said_and_wrong_questions_have_their_sentences() {
    let metadata = metadata();
    for (method, path, headers, status, words) in [
        ("GET", "/latest/meta-data/role", &[][..], 401, "No MMDS token provided"),
        ("GET", "/latest/meta-data/role", &[(TOKEN[0], "00")], 401, "not valid"),
        ("PUT", TOKEN_PATH, &[], 400, "time to live value not found"),
        ("PUT", TOKEN_PATH, &[(TTL[0], "0")], 400, "between 1 and 21600"),
        ("PUT", TOKEN_PATH, &[(TTL[0], "21601")], 400, "between 1 and 21600"),
        ("PUT", TOKEN_PATH, &[(TTL[0], "60"), ("x-forwarded-for", "1.2.3.4")], 400, "X-Forwarded-For"),
        ("PUT", "/latest", &[(TTL[0], "60")], 404, "/latest"),
        ("DELETE", "/latest", &[], 405, "Not allowed"),
    ] {
        let (said, text) = asked(&metadata, method, path, headers).await;
        assert!(said == status && text.contains(words), "{method} {path} {headers:?}: {said} {text}");
    }
}

#[tokio::test]
async fn a_connection_is_spoken_http_over_and_what_is_none_ends_it() {
    let conversation = async |sent: &[u8]| {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(serve(metadata(), server));
        client.write_all(sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        served.await.unwrap();
        String::from_utf8(heard).unwrap()
    };
    let heard = conversation(b"GET /latest HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 401 "), "{heard}");
    assert!(!conversation(b"nonsense\r\n\r\n").await.contains("200"));
    let endless = [b"GET /".as_slice(), &vec![b'x'; LONGEST_HEAD * 2]].concat();
    assert!(!conversation(&endless).await.contains("200"));
}
