//! Joins two streams, lane by lane: what a client's stream carries is what the guest's stream carries.

use fcvm_link::{Receiver, Sender, Stream};

/// Carries items both ways until both directions have ended. A reset of either stream resets the other.
pub(super) async fn splice(client: Stream, guest: Stream) {
    let (to_client, from_client) = client.split();
    let (to_guest, from_guest) = guest.split();
    tokio::join!(forward(from_client, to_guest), forward(from_guest, to_client));
}

async fn forward(mut from: Receiver, to: Sender) {
    loop {
        let item = tokio::select! {
            biased;
            () = to.closed() => return,
            item = from.recv() => item,
        };
        match item {
            Ok(Some(item)) => {
                if to.send(item.lane, item.bytes).await.is_err() {
                    return;
                }
            }
            Ok(None) => return to.finish(),
            Err(error) => return to.reset(&error.to_string()),
        }
    }
}
