//! Connections that the host makes into the guest: published ports.

use fcvm_link::{Lane, Receiver, Sender, Stream, relay};
use fcvm_proto::message::{Dial, Dialled, Transport};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::{TcpStream, UdpSocket};

/// The largest datagram.
const LARGEST: usize = 65_507;

/// Connects and carries bytes or datagrams until both sides have ended.
pub(crate) async fn serve(dial: Dial, stream: Stream) {
    let (sender, receiver) = stream.split();
    let connected = match dial.protocol {
        Transport::Tcp => connect(&dial).await.map(Connected::Tcp),
        Transport::Udp => datagrams(&dial).await.map(Connected::Udp),
    };
    let answer = match &connected {
        Ok(_) => Dialled::Connected,
        Err(error) => Dialled::Failed(error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())),
    };
    if sender.message(&answer).await.is_err() {
        return;
    }
    match connected {
        Ok(Connected::Tcp(connection)) => drop(relay::join(sender, receiver, connection).await),
        Ok(Connected::Udp(socket)) => carry(&sender, receiver, &socket).await,
        Err(_) => sender.finish(),
    }
}

enum Connected {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

fn places(dial: &Dial) -> Vec<SocketAddr> {
    const OWN: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses = dial.address.map_or(OWN.to_vec(), |address| vec![address]);
    addresses.into_iter().map(|address| SocketAddr::new(address, dial.port)).collect()
}

/// Tries the container's addresses in turn; the first one's error is the one that counts.
async fn connect(dial: &Dial) -> io::Result<TcpStream> {
    let mut first = None;
    for place in places(dial) {
        match TcpStream::connect(place).await {
            Ok(connection) => {
                connection.set_nodelay(true)?;
                return Ok(connection);
            }
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

async fn datagrams(dial: &Dial) -> io::Result<UdpSocket> {
    let place = places(dial)[0];
    let any: IpAddr = if place.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(place).await?;
    Ok(socket)
}

async fn carry(sender: &Sender, mut receiver: Receiver, socket: &UdpSocket) {
    let mut buffer = vec![0; LARGEST];
    loop {
        tokio::select! {
            item = receiver.recv() => match item {
                Ok(Some(item)) if item.lane == Lane::Data => drop(socket.send(&item.bytes).await),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
            // An error is an answer that an earlier datagram met; it says nothing about this socket.
            received = socket.recv(&mut buffer) => if let Ok(length) = received {
                let datagram = bytes::Bytes::copy_from_slice(&buffer[..length]);
                if sender.send(Lane::Data, datagram).await.is_err() {
                    return;
                }
            },
        }
    }
}
