//! Network namespaces held by file descriptor, and the switch that connects them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::{Error, Network, Result};

/// A network namespace. Clones are the same namespace; it ends with its last handle and process.
#[derive(Debug, Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
}

impl Netns {
    /// A new namespace with loopback up.
    pub fn create() -> Result<Netns> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// As the network of a [`Spec`](crate::Spec).
    pub fn network(&self) -> Network {
        Network::Join(self.fd.clone())
    }

    /// Run a closure on a thread inside the namespace. It blocks the caller for as long.
    pub fn run<T: Send, F: FnOnce() -> T + Send>(&self, _closure: F) -> Result<T> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// Listen inside the namespace.
    pub async fn tcp_listener(&self, _addr: SocketAddr) -> Result<TcpListener> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// A UDP socket bound inside the namespace.
    pub async fn udp_socket(&self, _addr: SocketAddr) -> Result<UdpSocket> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// Connect from inside the namespace.
    pub async fn tcp_connect(&self, _addr: SocketAddr) -> Result<TcpStream> {
        Err(Error::Unsupported("not yet".into()))
    }
}

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// An address in it.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

/// The namespace that all pods of an agent are connected to.
#[derive(Debug, Clone)]
pub struct Switch {
    netns: Netns,
}

/// Whether pods reach networks outside of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outward {
    /// They do, by this means: `veth and masquerade`, `pasta`.
    Works(String),
    /// They do not, and why.
    None(String),
}

impl Switch {
    /// A new switch. `gateway` is its own address and the pods' range (10.42.0.1/16); addresses in `local` ranges
    /// (10.96.0.0/16) are all its own, so that listening in [`Switch::netns`] answers them.
    pub fn create(_gateway: Cidr, _local: &[Cidr]) -> Result<Switch> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// The switch's own namespace: listen here for services, connect from here to pods.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A new namespace with this address, connected, default route through the switch.
    pub async fn attach(&self, _address: Ipv4Addr) -> Result<Netns> {
        Err(Error::Unsupported("not yet".into()))
    }

    /// Connect the switch outward where that is possible here.
    pub fn connect_outward(&self) -> Outward {
        Outward::None("not yet".into())
    }
}
