//! Datagrams of UDP and echo requests: a stream for each flow; it ends when nothing has moved for a while.

use super::device::write;
use super::packet::{Datagram, Flow, beginning, reply, unreachable};
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

type Known = Rc<RefCell<HashMap<Flow, mpsc::Sender<Bytes>>>>;

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

    /// Takes a datagram of a program, and the packet that it came in.
    pub(super) fn take(&mut self, packet: &[u8], Datagram { flow, payload }: Datagram<'_>) {
        let payload = Bytes::copy_from_slice(payload);
        let mut known = self.known.borrow_mut();
        if let Some(datagrams) = known.get(&flow) {
            let _ = datagrams.try_send(payload);
            return;
        }
        if known.len() >= MOST {
            return;
        }
        let (sender, datagrams) = mpsc::channel(QUEUE);
        let _ = sender.try_send(payload);
        known.insert(flow, sender);
        let (session, tun, known, first) =
            (self.session.clone(), self.tun.clone(), self.known.clone(), beginning(packet));
        tokio::task::spawn_local(async move {
            let failed = carry(&session, &tun, flow, datagrams).await;
            known.borrow_mut().remove(&flow);
            if let (Some(Failed(errno)), Some(first)) = (failed, first)
                && let Some(message) = unreachable(&first, errno)
            {
                write(&tun, &message);
            }
        });
    }
}

/// The error number with which a flow ended.
struct Failed(i32);

fn request(flow: Flow) -> GuestRequest {
    match flow {
        Flow::Udp(pair) => GuestRequest::Connect(Dial {
            protocol: Transport::Udp,
            address: Some(IpAddr::V4(*pair.to.ip())),
            port: pair.to.port(),
        }),
        Flow::Echo { to, .. } => GuestRequest::Echo { address: IpAddr::V4(to) },
    }
}

/// Carries one flow to its end; none if that is nobody's fault.
async fn carry(session: &Session, tun: &File, flow: Flow, mut datagrams: mpsc::Receiver<Bytes>) -> Option<Failed> {
    let (sender, mut receiver) = session.open(&request(flow)).ok()?.split();
    match receiver.recv().await.ok()??.message().ok()? {
        Dialled::Connected => {}
        Dialled::Failed(errno) => return Some(Failed(errno)),
    }
    loop {
        tokio::select! {
            datagram = datagrams.recv() => sender.send(Lane::Data, datagram?).await.ok()?,
            item = receiver.recv() => {
                let item = item.ok()??;
                match item.lane {
                    Lane::Data => write(tun, &reply(flow, &item.bytes)),
                    Lane::Message => match item.message().ok()? {
                        Dialled::Failed(errno) => return Some(Failed(errno)),
                        Dialled::Connected => {}
                    },
                    Lane::Error => {}
                }
            }
            () = tokio::time::sleep(IDLE) => return None,
        }
    }
}
