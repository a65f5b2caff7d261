//! Published ports: the owner listens, and carries each connection over the link to the container.

use crate::udp;
use fcvm_link::{Lane, Receiver, Sender, Session, relay};
use fcvm_proto::message::{Dial, Dialled, HostRequest, Transport};
use fcvm_spec::{PortMapping, Protocol};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// A port that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}/{protocol} for the container's port {container_port}")]
pub struct BindError {
    address: SocketAddr,
    protocol: Protocol,
    container_port: u16,
    source: io::Error,
}

/// Ports that this process listens on; they queue connections until [`Published::serve`].
#[derive(Debug)]
pub struct Published {
    sockets: Vec<(PortMapping, Socket)>,
}

#[derive(Debug)]
enum Socket {
    Tcp(Arc<TcpListener>),
    Udp(Arc<UdpSocket>),
}

/// How many clients one UDP port remembers at once; the oldest flows end by themselves.
const MOST_FLOWS: usize = 1024;

impl Published {
    /// Listens on every port, or on none.
    pub async fn bind(mappings: &[PortMapping]) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            let address = SocketAddr::new(mapping.host_ip, mapping.host_port);
            let failed = |source| {
                let (protocol, container_port) = (mapping.protocol, mapping.container_port);
                BindError { address, protocol, container_port, source }
            };
            let (socket, bound) = Socket::bind(address, mapping.protocol).await.map_err(failed)?;
            sockets.push((PortMapping { host_port: bound.port(), ..*mapping }, socket));
        }
        Ok(Self { sockets })
    }

    /// Returns the mappings with the ports that the host chose.
    pub fn mappings(&self) -> Vec<PortMapping> {
        self.sockets.iter().map(|(mapping, _)| *mapping).collect()
    }

    /// Carries connections until it is dropped, which ends them all; others queue until it is served again.
    pub async fn serve(self: Arc<Self>, session: Session) {
        let mut ports = JoinSet::new();
        for (mapping, socket) in &self.sockets {
            let session = session.clone();
            match socket {
                Socket::Tcp(listener) => ports.spawn(serve_tcp(listener.clone(), mapping.container_port, session)),
                Socket::Udp(socket) => ports.spawn(serve_udp(socket.clone(), mapping.container_port, session)),
            };
        }
        while ports.join_next().await.is_some() {}
    }
}

impl Socket {
    async fn bind(address: SocketAddr, protocol: Protocol) -> io::Result<(Self, SocketAddr)> {
        match protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await?;
                let bound = listener.local_addr()?;
                Ok((Self::Tcp(Arc::new(listener)), bound))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(address).await?;
                let bound = socket.local_addr()?;
                Ok((Self::Udp(Arc::new(socket)), bound))
            }
        }
    }
}

async fn serve_tcp(listener: Arc<TcpListener>, port: u16, session: Session) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => {
                    connections.spawn(carry(connection, port, session.clone()));
                }
                // Out of descriptors or memory: the connection waits in the queue until one of ours ends.
                Err(error) => {
                    tracing::warn!(%error, port, "a connection to a published port was not accepted");
                    let _ = connections.join_next().await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(connection: TcpStream, port: u16, session: Session) {
    match dial(&session, Transport::Tcp, port).await {
        Some((sender, receiver)) => {
            let _ = connection.set_nodelay(true);
            if let Err(error) = relay::join(sender, receiver, connection).await {
                tracing::debug!(%error, port, "a connection to a published port ended early");
            }
        }
        // Nobody listens in the container: the client sees a reset, as if it had asked the container itself.
        None => drop(connection.set_zero_linger()),
    }
}

/// Opens a stream to a port of the container; none if nobody listens there.
async fn dial(session: &Session, protocol: Transport, port: u16) -> Option<(Sender, Receiver)> {
    let request = HostRequest::Dial(Dial { protocol, address: None, port });
    let (sender, mut receiver) = session.open(&request).ok()?.split();
    match receiver.recv().await.ok()??.message().ok()? {
        Dialled::Connected => Some((sender, receiver)),
        Dialled::Failed(errno) => {
            tracing::debug!(errno, port, "nobody listens in the container");
            None
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, port: u16, session: Session) {
    let mut flows: HashMap<SocketAddr, Sender> = HashMap::new();
    let mut replies: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; udp::LARGEST];
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An error that an earlier answer met; it says nothing about this socket.
                Err(_) => continue,
            },
            Some(Ok(ended)) = replies.join_next() => {
                flows.remove(&ended);
                continue;
            }
        };
        if !flows.contains_key(&client) {
            if flows.len() >= MOST_FLOWS {
                continue;
            }
            let Some((sender, receiver)) = dial(&session, Transport::Udp, port).await else { continue };
            flows.insert(client, sender);
            replies.spawn(answer(socket.clone(), receiver, client));
        }
        let datagram = bytes::Bytes::copy_from_slice(&buffer[..length]);
        if let Some(flow) = flows.get_mut(&client)
            && flow.send(Lane::Data, datagram).await.is_err()
        {
            flows.remove(&client);
        }
    }
}

/// Sends a flow's answers to its client until the flow ends or is idle.
async fn answer(socket: Arc<UdpSocket>, mut receiver: Receiver, client: SocketAddr) -> SocketAddr {
    while let Some(item) = udp::next(&mut receiver).await {
        if item.lane == Lane::Data {
            let _ = socket.send_to(&item.bytes, client).await;
        }
    }
    client
}
