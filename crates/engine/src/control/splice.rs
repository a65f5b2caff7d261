//! Joins two streams, lane by lane: what a client's stream carries is what the guest's stream carries.

use fcvm_link::{Receiver, Sender, Stream};
use tokio::sync::Notify;

/// Carries items both ways until both directions have ended. A reset of either stream resets the other, even while what
/// was sent to that one waits for a reader.
pub(super) async fn splice(client: Stream, guest: Stream) {
    let (to_client, from_client) = client.split();
    let (to_guest, from_guest) = guest.split();
    let (client_gone, guest_gone) = (Notify::new(), Notify::new());
    tokio::join!(
        forward((from_client, &client_gone), (to_guest, &guest_gone)),
        forward((from_guest, &guest_gone), (to_client, &client_gone)),
    );
}

/// Carries one direction. The stream that it writes to is watched here, the one that it reads from by the other direction.
async fn forward((mut from, from_gone): (Receiver, &Notify), (to, to_gone): (Sender, &Notify)) {
    loop {
        let item = tokio::select! {
            biased;
            () = to.closed() => break,
            item = from.recv() => item,
        };
        match item {
            Ok(Some(item)) => tokio::select! {
                sent = to.send(item.lane, item.bytes) => if sent.is_err() { break },
                () = from_gone.notified() => return to.reset("the other side is gone"),
            },
            Ok(None) => return to.finish(),
            Err(error) => return to.reset(&error.to_string()),
        }
    }
    to_gone.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::in_memory;
    use bytes::Bytes;
    use fcvm_link::{Lane, Session};

    async fn spliced() -> (Stream, Stream, [Session; 4]) {
        let ((client, _), (owner, mut clients)) = in_memory(64 << 10);
        let ((to_guest, _), (guest, mut requests)) = in_memory(64 << 10);
        let at_client = client.open(&"exec").unwrap();
        let opened = clients.accept().await.unwrap();
        let onward = to_guest.open(&"exec").unwrap();
        tokio::spawn(splice(opened.stream, onward));
        let at_guest = requests.accept().await.unwrap().stream;
        (at_client, at_guest, [client, owner, to_guest, guest])
    }

    /// Sends until the window between the two is full: what comes next waits for a reader.
    async fn fill(sender: &Sender) {
        let piece = Bytes::from(vec![7; 60_000]);
        let full = std::time::Duration::from_millis(200);
        while tokio::time::timeout(full, sender.send(Lane::Data, piece.clone())).await.is_ok() {}
    }

    #[tokio::test]
    async fn items_go_both_ways_and_each_way_ends_by_itself() {
        let (client, guest, _sessions) = spliced().await;
        let (to_guest, mut from_guest) = client.split();
        let (to_client, mut from_client) = guest.split();
        to_guest.send(Lane::Data, Bytes::from_static(b"in")).await.unwrap();
        to_guest.finish();
        assert_eq!(from_client.recv().await.unwrap().unwrap().bytes, "in");
        assert!(from_client.recv().await.unwrap().is_none());
        to_client.send(Lane::Error, Bytes::from_static(b"out")).await.unwrap();
        to_client.finish();
        assert_eq!(from_guest.recv().await.unwrap().unwrap().bytes, "out");
        assert!(from_guest.recv().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_client_that_goes_while_its_input_waits_resets_the_guests_stream() {
        let (client, guest, _sessions) = spliced().await;
        let (to_guest, from_guest) = client.split();
        fill(&to_guest).await;
        to_guest.reset("killed");
        drop(from_guest);
        guest.split().0.closed().await;
    }

    #[tokio::test]
    async fn a_guest_that_goes_while_its_output_waits_resets_the_clients_stream() {
        let (client, guest, _sessions) = spliced().await;
        let (to_client, from_client) = guest.split();
        fill(&to_client).await;
        to_client.reset("over");
        drop(from_client);
        client.split().0.closed().await;
    }
}
