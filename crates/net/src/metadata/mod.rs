//! The metadata service of a guest: what its owner lets it know of itself, at the address where programs of clouds look.
//!
//! The protocol is version 2 of Firecracker's MMDS, which is that of EC2: a token is had by `PUT /latest/api/token`, and
//! values by `GET` with it. No device carries it: a connection to the address ends in the owner, whatever the monitor. What is
//! said belongs to the machine that asks, so a clone hears its own from its first question on, and tokens of its snapshot
//! are worth nothing.

mod service;
mod tokens;
mod tree;

pub use tree::{BadKey, Tree};

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokens::Tokens;
use tokio::io::{AsyncRead, AsyncWrite};

/// Where it is found.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The port of HTTP.
pub const PORT: u16 = 80;

/// The metadata of one guest. Copies are the same one.
#[derive(Clone, Debug, Default)]
pub struct Metadata(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    tree: Tree,
    tokens: Tokens,
}

impl Metadata {
    /// Makes a service that says this.
    pub fn new(tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(State { tree, tokens: Tokens::default() })))
    }

    /// From now on it says this.
    pub fn replace(&self, tree: Tree) {
        self.state().tree = tree;
    }

    /// Whether a connection of the guest is meant for it.
    pub(crate) fn is_at(address: Option<IpAddr>, port: u16) -> bool {
        address.map(|address| address.to_canonical()) == Some(ADDRESS.into()) && port == PORT
    }

    /// Serves one connection until it ends.
    pub(crate) async fn serve<C: AsyncRead + AsyncWrite + Unpin>(self, connection: C) {
        service::serve(self, connection).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
