//! Datagrams: a flow for each pair of places, carried by one stream; it ends when nothing has moved for a while.

use super::device::write;
use super::packet::{Datagram, Pair, reply};
use bytes::Bytes;
use fcvm_link::{Lane, Session};
use fcvm_proto::message::{Dial, Dialled, GuestRequest, Transport};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// After how long without a datagram a flow is over.
const IDLE: Duration = Duration::from_secs(120);
/// Flows at one time; datagrams of further ones are lost.
const MOST: usize = 1024;
/// Datagrams of one flow that wait for the link; further ones are lost, as on a wire.
const QUEUE: usize = 64;

type Known = Rc<RefCell<HashMap<Pair, mpsc::Sender<Bytes>>>>;

/// The flows that are open.
pub(super) struct Flows {
    session: Session,
    tun: Rc<File>,
    known: Known,
}

impl Flows {
    pub(super) fn new(session: Session, tun: Rc<File>) -> Self {
        Self { session, tun, known: Known::default() }
    }

    /// Takes a datagram of a program.
    pub(super) fn take(&mut self, datagram: Datagram<'_>) {
        let payload = Bytes::copy_from_slice(datagram.payload);
        let mut known = self.known.borrow_mut();
        if let Some(flow) = known.get(&datagram.pair) {
            let _ = flow.try_send(payload);
            return;
        }
        if known.len() >= MOST {
            return;
        }
        let (sender, datagrams) = mpsc::channel(QUEUE);
        let _ = sender.try_send(payload);
        known.insert(datagram.pair, sender);
        let (session, tun, known, pair) = (self.session.clone(), self.tun.clone(), self.known.clone(), datagram.pair);
        tokio::task::spawn_local(async move {
            let _ = carry(&session, &tun, pair, datagrams).await;
            known.borrow_mut().remove(&pair);
        });
    }
}

/// Carries one flow; none when it is over.
async fn carry(session: &Session, tun: &File, pair: Pair, mut datagrams: mpsc::Receiver<Bytes>) -> Option<()> {
    let dial = Dial { protocol: Transport::Udp, address: Some(IpAddr::V4(*pair.to.ip())), port: pair.to.port() };
    let (sender, mut receiver) = session.open(&GuestRequest::Connect(dial)).ok()?.split();
    match receiver.recv().await.ok()??.message().ok()? {
        Dialled::Connected => {}
        Dialled::Failed(_) => return None,
    }
    loop {
        tokio::select! {
            datagram = datagrams.recv() => sender.send(Lane::Data, datagram?).await.ok()?,
            item = receiver.recv() => {
                let item = item.ok()??;
                if item.lane == Lane::Data {
                    write(tun, &reply(pair, &item.bytes));
                }
            }
            () = tokio::time::sleep(IDLE) => return None,
        }
    }
}
