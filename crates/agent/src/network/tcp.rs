//! Connections: a smoltcp socket for each, joined with a stream to the host.
//!
//! ```text
//! Asked (SYN seen, not answered) ── host connected ──► Open ── both ends closed, or reset ──► gone
//!        └── host failed ──► RST or an ICMP message ──► gone
//! ```

use super::device::Device;
use super::packet::{self, Head, Pair};
use bytes::Bytes;
use fcvm_link::{Lane, Receiver, Sender, Session};
use fcvm_proto::message::{Dial, Dialled, GuestRequest, Transport};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, Ipv4Address};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio::sync::{Notify, oneshot};

/// Bytes of a socket's buffer in each direction; memory is taken as it is used.
const BUFFER: usize = 256 << 10;
/// Connections at one time; further ones are refused.
const MOST: usize = 2048;
/// Pieces between a socket and its stream.
const QUEUE: usize = 4;
/// Bytes of one piece.
const PIECE: usize = 64 << 10;
/// The stack's own address. Nothing ever reaches it: what is sent there is a connection like any other.
const OWN: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

/// All connections of the guest.
pub(super) struct Connections {
    interface: Interface,
    sockets: SocketSet<'static>,
    known: HashMap<Pair, Connection>,
    session: Session,
    moved: Rc<Notify>,
    started: std::time::Instant,
}

/// One connection.
struct Connection {
    handle: SocketHandle,
    stage: Stage,
}

enum Stage {
    /// The host is being asked; the packet that asked is kept for an answer.
    Asked { syn: Vec<u8>, answer: oneshot::Receiver<Result<Joined, i32>> },
    /// Bytes flow.
    Open(Joined),
}

/// The near ends of a connection's stream.
struct Joined {
    /// What the program sent; none once it has said that this is all.
    outward: Option<mpsc::Sender<Bytes>>,
    inward: mpsc::Receiver<Result<Bytes, ()>>,
    /// What came and does not fit yet.
    rest: Bytes,
    ended: bool,
}

impl Connections {
    pub(super) fn new(device: &mut Device, session: Session, moved: Rc<Notify>) -> Self {
        let started = std::time::Instant::now();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(OWN.into(), 24)).expect("there is room for one address");
        });
        interface.routes_mut().add_default_ipv4_route(OWN).expect("there is room for one route");
        interface.set_any_ip(true);
        Self { interface, sockets: SocketSet::new(Vec::new()), known: HashMap::new(), session, moved, started }
    }

    /// Takes the segment of a program that the device holds. What it gives rise to is sent by [`Connections::serve`].
    pub(super) fn take(&mut self, device: &mut Device, head: Head) {
        if head.opens && !self.known.contains_key(&head.pair) && self.known.len() < MOST {
            self.ask(device.packet(), head.pair);
        }
        // A segment that belongs to nothing is answered with a reset by the stack.
        device.give();
        let now = self.now();
        self.interface.poll_ingress_single(now, device, &mut self.sockets);
    }

    /// Moves bytes between sockets and streams; returns after how long that is wanted again at the latest.
    pub(super) fn serve(&mut self, device: &mut Device) -> Option<Duration> {
        let pairs: Vec<Pair> = self.known.keys().copied().collect();
        for pair in pairs {
            self.advance(device, pair);
        }
        let now = self.now();
        self.interface.poll(now, device, &mut self.sockets);
        let delay = self.interface.poll_delay(self.now(), &self.sockets)?;
        Some(Duration::from_micros(delay.total_micros()))
    }

    /// Resets every connection, since their other ends are another machine's; makes further ones over this session.
    /// Returns how many there were.
    pub(super) fn renew(&mut self, device: &mut Device, session: Session) -> u32 {
        self.session = session;
        let pairs: Vec<Pair> = self.known.keys().copied().collect();
        let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
        for pair in pairs {
            if let Some(connection) = self.known.get(&pair) {
                self.sockets.get_mut::<Socket<'_>>(connection.handle).abort();
            }
            self.drop_after_poll(device, pair);
        }
        count
    }

    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    /// Listens for the connection without answering yet, and asks the host to make it.
    fn ask(&mut self, syn: &[u8], pair: Pair) {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.pause_synack(true);
        let place = IpEndpoint::new((*pair.to.ip()).into(), pair.to.port());
        if socket.listen(place).is_err() {
            return;
        }
        let (answered, answer) = oneshot::channel();
        let (session, moved) = (self.session.clone(), self.moved.clone());
        tokio::task::spawn_local(async move {
            let _ = answered.send(connect(&session, pair, &moved).await);
            moved.notify_one();
        });
        let handle = self.sockets.add(socket);
        self.known.insert(pair, Connection { handle, stage: Stage::Asked { syn: syn.to_vec(), answer } });
    }

    /// Does for one connection what can be done now.
    fn advance(&mut self, device: &mut Device, pair: Pair) {
        let Some(connection) = self.known.get_mut(&pair) else { return };
        let socket = self.sockets.get_mut::<Socket<'_>>(connection.handle);
        if let Stage::Asked { syn, answer } = &mut connection.stage {
            match answer.try_recv() {
                Ok(Ok(joined)) => {
                    socket.pause_synack(false);
                    connection.stage = Stage::Open(joined);
                }
                Ok(Err(errno)) => {
                    let refused = errno == rustix::io::Errno::CONNREFUSED.raw_os_error();
                    let message = if refused { None } else { packet::unreachable(syn, errno) };
                    match message {
                        Some(message) => device.write(&message),
                        None => socket.abort(),
                    }
                    return self.drop_after_poll(device, pair);
                }
                Err(oneshot::error::TryRecvError::Closed) => {
                    socket.abort();
                    return self.drop_after_poll(device, pair);
                }
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
        }
        let Some(connection) = self.known.get_mut(&pair) else { return };
        let socket = self.sockets.get_mut::<Socket<'_>>(connection.handle);
        if let Stage::Open(joined) = &mut connection.stage {
            joined.send_out(socket);
            joined.bring_in(socket);
        }
        if matches!(socket.state(), State::Closed | State::TimeWait) {
            self.drop_after_poll(device, pair);
        }
    }

    /// Lets the stack say its last word and forgets the connection; its stream ends with its channels.
    fn drop_after_poll(&mut self, device: &mut Device, pair: Pair) {
        let now = self.now();
        self.interface.poll(now, device, &mut self.sockets);
        if let Some(connection) = self.known.remove(&pair) {
            self.sockets.remove(connection.handle);
        }
    }
}

impl Joined {
    /// Takes what the program sent as far as the stream takes it, and passes its end on.
    fn send_out(&mut self, socket: &mut Socket<'_>) {
        let Some(outward) = &self.outward else { return };
        while socket.can_recv() {
            let Ok(room) = outward.try_reserve() else { return };
            let piece = socket.recv(|bytes| {
                let length = bytes.len().min(PIECE);
                (length, Bytes::copy_from_slice(&bytes[..length]))
            });
            match piece {
                Ok(piece) => room.send(piece),
                Err(_) => break,
            }
        }
        let may_come =
            matches!(socket.state(), State::SynReceived | State::Established | State::FinWait1 | State::FinWait2);
        if !may_come && socket.state() != State::Closed {
            self.outward = None;
        }
    }

    /// Gives the program what came as far as there is room, and passes the end on.
    fn bring_in(&mut self, socket: &mut Socket<'_>) {
        while socket.may_send() && !self.ended {
            if !self.rest.is_empty() {
                let taken = socket.send_slice(&self.rest).unwrap_or(0);
                if taken == 0 {
                    return;
                }
                self.rest = self.rest.slice(taken..);
                continue;
            }
            match self.inward.try_recv() {
                Ok(Ok(bytes)) => self.rest = bytes,
                Ok(Err(())) => {
                    self.ended = true;
                    socket.abort();
                }
                Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    socket.close();
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }
}

/// Asks the host for a connection; the near ends of its stream, or the error number.
async fn connect(session: &Session, pair: Pair, moved: &Rc<Notify>) -> Result<Joined, i32> {
    let broken = rustix::io::Errno::NETDOWN.raw_os_error();
    let dial = Dial { protocol: Transport::Tcp, address: Some(IpAddr::V4(*pair.to.ip())), port: pair.to.port() };
    let (sender, mut receiver) = session.open(&GuestRequest::Connect(dial)).map_err(|_| broken)?.split();
    let item = receiver.recv().await.map_err(|_| broken)?.ok_or(broken)?;
    match item.message().map_err(|_| broken)? {
        Dialled::Connected => {}
        Dialled::Failed(errno) => return Err(errno),
    }
    let (outward, pieces) = mpsc::channel(QUEUE);
    let (arrived, inward) = mpsc::channel(QUEUE);
    tokio::task::spawn_local(carry_out(sender, pieces, moved.clone()));
    tokio::task::spawn_local(carry_in(receiver, arrived, moved.clone()));
    Ok(Joined { outward: Some(outward), inward, rest: Bytes::new(), ended: false })
}

async fn carry_out(sender: Sender, mut pieces: mpsc::Receiver<Bytes>, moved: Rc<Notify>) {
    while let Some(piece) = pieces.recv().await {
        moved.notify_one();
        if sender.send(Lane::Data, piece).await.is_err() {
            return;
        }
    }
    sender.finish();
}

async fn carry_in(mut receiver: Receiver, arrived: mpsc::Sender<Result<Bytes, ()>>, moved: Rc<Notify>) {
    loop {
        let piece = match receiver.recv().await {
            Ok(Some(item)) if item.lane == Lane::Data => Ok(item.bytes),
            Ok(Some(_)) => continue,
            Ok(None) => break,
            Err(_) => Err(()),
        };
        let failed = piece.is_err();
        let gone = arrived.send(piece).await.is_err();
        moved.notify_one();
        if gone || failed {
            return;
        }
    }
    drop(arrived);
    moved.notify_one();
}
