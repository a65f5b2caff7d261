//! Connections that leave the guest: each is a stream that the guest opened, and a socket that the owner opens for it.

use crate::address::Translation;
use crate::echo::EchoSocket;
use crate::metadata::Metadata;
use crate::udp;
use fcvm_link::{Opened, Receiver, Sender, relay};
use fcvm_proto::message::{Dial, Dialled, GuestRequest, Transport};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::{TcpStream, UdpSocket};

/// How much of a conversation about metadata waits for its reader, in bytes.
const ANSWERS: usize = 16 << 10;

/// Answers the guest's requests for connections.
#[derive(Clone, Debug)]
pub struct Egress {
    /// Absent in `--network none`: everything is unreachable.
    translation: Option<Arc<Translation>>,
    metadata: Metadata,
}

impl Egress {
    /// Makes an egress with this view of the world, and what the guest may know of itself.
    pub fn new(translation: Option<Translation>, metadata: Metadata) -> Self {
        Self { translation: translation.map(Arc::new), metadata }
    }

    /// Serves one stream of the guest until it ends. What the guest asks wrongly is reset with a sentence.
    pub async fn serve(self, opened: Opened) {
        let request = opened.request::<GuestRequest>();
        let (sender, receiver) = opened.stream.split();
        let served = match request {
            Ok(GuestRequest::Connect(dial)) => self.connect(dial, sender, receiver).await,
            Ok(GuestRequest::Echo { address }) => self.echo(address, sender, receiver).await,
            Ok(GuestRequest::Power(_)) => return sender.reset("this leads nowhere"),
            Err(error) => return sender.reset(&format!("this host does not know the request: {error}")),
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection of the guest ended early");
        }
    }

    /// Where on the host's side a place of the guest is.
    fn place(&self, address: Option<IpAddr>, port: u16) -> Result<SocketAddr, i32> {
        let unreachable = rustix::io::Errno::NETUNREACH.raw_os_error();
        let translation = self.translation.as_ref().ok_or(unreachable)?;
        translation.translate(address.ok_or(unreachable)?, port)
    }

    async fn connect(&self, dial: Dial, sender: Sender, receiver: Receiver) -> io::Result<()> {
        if self.translation.is_some() && dial.protocol == Transport::Tcp && Metadata::is_at(dial.address, dial.port) {
            return self.answer(sender, receiver).await;
        }
        match (self.place(dial.address, dial.port), dial.protocol) {
            (Err(errno), _) => refuse(sender, errno).await,
            (Ok(place), Transport::Tcp) => match TcpStream::connect(place).await {
                Ok(connection) => {
                    connection.set_nodelay(true)?;
                    sender.message(&Dialled::Connected).await.map_err(io::Error::other)?;
                    relay::join(sender, receiver, connection).await.map_err(io::Error::other)
                }
                Err(error) => refuse(sender, errno(&error)).await,
            },
            (Ok(place), Transport::Udp) => match udp_socket(place).await {
                Ok(socket) => {
                    sender.message(&Dialled::Connected).await.map_err(io::Error::other)?;
                    udp::relay(sender, receiver, &socket).await
                }
                Err(error) => refuse(sender, errno(&error)).await,
            },
        }
    }

    /// Ends a connection in the metadata service.
    async fn answer(&self, sender: Sender, receiver: Receiver) -> io::Result<()> {
        sender.message(&Dialled::Connected).await.map_err(io::Error::other)?;
        let (connection, service) = tokio::io::duplex(ANSWERS);
        let (relayed, ()) =
            tokio::join!(relay::join(sender, receiver, connection), self.metadata.clone().serve(service));
        relayed.map_err(io::Error::other)
    }

    async fn echo(&self, address: IpAddr, sender: Sender, receiver: Receiver) -> io::Result<()> {
        match open_echo(self.place(Some(address), 0)) {
            Ok(socket) => {
                sender.message(&Dialled::Connected).await.map_err(io::Error::other)?;
                udp::relay(sender, receiver, &socket).await
            }
            Err(errno) => refuse(sender, errno).await,
        }
    }
}

fn open_echo(place: Result<SocketAddr, i32>) -> Result<EchoSocket, i32> {
    match place?.ip() {
        IpAddr::V4(address) => EchoSocket::open(address).map_err(|error| errno(&error)),
        IpAddr::V6(_) => Err(rustix::io::Errno::AFNOSUPPORT.raw_os_error()),
    }
}

async fn refuse(sender: Sender, errno: i32) -> io::Result<()> {
    sender.message(&Dialled::Failed(errno)).await.map_err(io::Error::other)?;
    sender.finish();
    Ok(())
}

async fn udp_socket(place: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match place {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(place).await?;
    Ok(socket)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())
}
