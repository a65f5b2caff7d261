//! A client against a QEMU that behaves, and against some that do not.

use super::*;

/// A client, and QEMU's end of its connection.
fn connected() -> (Qmp, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (qmp, reader) = Qmp::connect(ours);
    tokio::spawn(reader);
    (qmp, theirs)
}

async fn question(qemu: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    qemu.read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

async fn say(qemu: &mut BufReader<UnixStream>, line: &Value) {
    qemu.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn answers_in_another_order_find_their_questions() {
    let (qmp, qemu) = connected();
    let mut qemu = BufReader::new(qemu);
    let both = async { tokio::join!(qmp.execute("first"), qmp.execute("second")) };
    let answers = async {
        say(&mut qemu, &json!({ "QMP": { "version": {}, "capabilities": ["oob"] } })).await;
        let (first, second) = (question(&mut qemu).await, question(&mut qemu).await);
        assert_eq!((&first["execute"], &second["execute"]), (&json!("first"), &json!("second")));
        say(&mut qemu, &json!({ "event": "RESUME", "timestamp": {} })).await;
        say(&mut qemu, &json!({ "return": { "n": 2 }, "id": second["id"] })).await;
        say(&mut qemu, &json!({ "return": {}, "id": 4711 })).await;
        say(&mut qemu, &json!({ "return": { "n": 1 }, "id": first["id"] })).await;
    };
    let ((first, second), ()) = tokio::join!(both, answers);
    assert_eq!((first.unwrap()["n"].as_u64(), second.unwrap()["n"].as_u64()), (Some(1), Some(2)));
}

#[tokio::test]
async fn a_refusal_is_told_in_qemus_words() {
    let (qmp, qemu) = connected();
    let mut qemu = BufReader::new(qemu);
    let answer = async {
        let asked = question(&mut qemu).await;
        say(&mut qemu, &json!({ "error": { "class": "GenericError", "desc": "not now" }, "id": asked["id"] })).await;
    };
    let (refused, ()) = tokio::join!(qmp.execute("cont"), answer);
    assert_eq!(refused.unwrap_err().to_string(), "QEMU refused cont: not now");
}

#[tokio::test]
async fn a_qemu_that_goes_away_answers_all_and_for_ever() {
    let (qmp, qemu) = connected();
    let mut qemu = BufReader::new(qemu);
    let leave = async {
        question(&mut qemu).await;
        drop(qemu);
    };
    let (asked, ()) = tokio::join!(qmp.execute("stop"), leave);
    assert!(matches!(asked, Err(QmpError::Closed)));
    assert!(matches!(qmp.execute("stop").await, Err(QmpError::Closed)));
}

#[tokio::test]
async fn lines_without_end_and_nonsense_close_the_connection() {
    for nonsense in [vec![b'x'; LONGEST_LINE as usize + 1], b"{\"id\":\n".to_vec(), b"\xff\xff\n".to_vec()] {
        let (qmp, mut qemu) = connected();
        let talk = async {
            // The client may hang up in the middle.
            let _hung_up = qemu.write_all(&nonsense).await;
        };
        let (asked, ()) = tokio::join!(qmp.execute("stop"), talk);
        assert!(matches!(asked, Err(QmpError::Closed)));
    }
}

#[tokio::test]
async fn the_reason_of_a_shutdown_is_remembered() {
    for (reason, expected) in
        [("guest-shutdown", Exit::PoweredOff), ("guest-reset", Exit::Reset), ("host-signal", Exit::Signal(15))]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (qmp, reader) = Qmp::connect(ours);
        assert_eq!(qmp.shutdown(), None);
        let event = json!({ "event": "SHUTDOWN", "data": { "guest": true, "reason": reason } });
        theirs.write_all(format!("{event}\n").as_bytes()).await.unwrap();
        drop(theirs);
        reader.await;
        assert_eq!(qmp.shutdown(), Some(expected));
    }
}

#[tokio::test]
async fn a_question_that_was_given_up_leaves_nothing_behind() {
    let (qmp, _qemu) = connected();
    let asked = tokio::time::timeout(Duration::ZERO, qmp.execute("stop")).await;
    assert!(asked.is_err());
    assert!(qmp.heard.state().waiting.is_empty());
}
