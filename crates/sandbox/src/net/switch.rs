//! The switch: one namespace that every pod's namespace has a veth pair into. It routes and does not bridge: no limit
//! of ports, no pod sees another's broadcasts or can take its address, and nothing but netlink is needed.

use std::{
    fmt,
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use super::{
    Netns, loopback_up,
    netlink::{Batch, Message, Socket},
    outward,
};
use crate::{Error, Result, error::Step, namespaces, sys};

const CREATE: u16 = libc::NLM_F_CREATE as u16 | libc::NLM_F_EXCL as u16;
const LOOPBACK: u32 = 1;
/// The interface of a pod, right after its loopback.
const POD_INTERFACE: u32 = 2;

// Attributes of links, addresses and routes.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const CONF_FORWARDING: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;

const TABLE_MAIN: u8 = 254;
const TABLE_LOCAL: u8 = 255;
const SCOPE_GLOBAL: u8 = 0;
const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const TYPE_UNICAST: u8 = 1;
const TYPE_LOCAL: u8 = 2;

/// An IPv4 range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// An address in it.
    pub address: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
}

impl Cidr {
    /// Of an address and a prefix length.
    pub const fn new(address: Ipv4Addr, prefix: u8) -> Cidr {
        Cidr { address, prefix }
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        address.to_bits() & mask == self.address.to_bits() & mask
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The namespace that all pods of an agent are connected to.
#[derive(Debug, Clone)]
pub struct Switch {
    netns: Netns,
    pods: Cidr,
    outward: Arc<std::sync::OnceLock<(Outward, Option<outward::Uplink>)>>,
}

/// Whether pods reach networks outside of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outward {
    /// They do, by this means.
    Works(String),
    /// They do not, and why.
    None(String),
}

impl Switch {
    /// A new switch. `gateway` is its own address and the pods' range (10.42.0.1/16); addresses in `local` ranges
    /// (10.96.0.0/16) are all its own, so that listening in [`Switch::netns`] answers them.
    pub fn create(gateway: Cidr, local: &[Cidr]) -> Result<Switch> {
        let fd = namespaces::make(libc::CLONE_NEWNET, "net", loopback_up)?;
        let netns = Netns { fd };
        netns.run(|| configure(gateway, local))??;
        Ok(Switch { netns, pods: gateway, outward: Arc::default() })
    }

    /// The switch's own namespace: listen here for services, connect from here to pods.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// A new namespace with this address, connected, default route through the switch.
    pub async fn attach(&self, address: Ipv4Addr) -> Result<Netns> {
        let switch = self.clone();
        let attached = tokio::task::spawn_blocking(move || switch.attach_blocking(address)).await;
        attached.map_err(|e| Error::Gone(e.to_string()))?
    }

    /// As [`Switch::attach`], for callers without a runtime.
    pub fn attach_blocking(&self, address: Ipv4Addr) -> Result<Netns> {
        if !self.pods.contains(address) || address == self.pods.address {
            return Err(Error::Spec(format!("{address} is no pod address of {}", self.pods)));
        }
        namespaces::on_thread(|| self.attach_here(address))?
    }

    /// Connect the switch outward where that is possible here. Done once; later calls answer the same.
    pub fn connect_outward(&self) -> Outward {
        let connect = || match outward::connect(&self.netns) {
            Ok(uplink) => (Outward::Works(uplink.means()), Some(uplink)),
            Err(error) => {
                let why = format!("{error}; pods reach each other and this machine's services only");
                (Outward::None(why), None)
            }
        };
        self.outward.get_or_init(connect).0.clone()
    }

    fn attach_here(&self, address: Ipv4Addr) -> Result<Netns> {
        let what = || format!("create the network namespace of {address}");
        let made = sys::unshare(libc::CLONE_NEWNET).and_then(|()| loopback_up());
        made.map_err(io::Error::from_raw_os_error).step(what)?;
        let file = File::open("/proc/thread-self/ns/net").step(what)?;
        let pod = Netns { fd: Arc::new(OwnedFd::from(file)) };
        self.netns.enter()?;
        // The pod's number in its range names the switch's end.
        let host_bits = 32 - u32::from(self.pods.prefix);
        let number = address.to_bits() & u32::MAX.checked_shl(host_bits).map_or(u32::MAX, |mask| !mask);
        let index = 1000 + number;
        let name = format!("pod{number:x}");
        let connect = || {
            let mut batch = Batch::default();
            veth(&mut batch, (index, &name), (POD_INTERFACE, "eth0"), Some(&pod.fd));
            forwarding(&mut batch, index);
            let to = Cidr::new(address, 32);
            route(&mut batch, to, index, Via { source: Some(self.pods.address), ..Via::LINK });
            Socket::open(libc::NETLINK_ROUTE).map_err(|e| ("netlink".to_owned(), e))?.send(batch)
        };
        let connected = match connect() {
            Err((_, error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                // The kernel takes a namespace apart some time after its last process ended.
                let mut batch = Batch::default();
                delete(&mut batch, index);
                let deleted = Socket::open(libc::NETLINK_ROUTE).map(|s| s.send(batch));
                drop(deleted);
                connect()
            }
            answer => answer,
        };
        connected.map_err(|(words, e)| Error::io(format!("connect {address} to the switch: {words}"), e))?;
        pod.enter()?;
        let mut batch = Batch::default();
        up(&mut batch, POD_INTERFACE);
        address_on(&mut batch, POD_INTERFACE, Cidr::new(address, 32), SCOPE_GLOBAL);
        route(&mut batch, Cidr::new(self.pods.address, 32), POD_INTERFACE, Via::LINK);
        let via = Via::gateway(self.pods.address);
        route(&mut batch, Cidr::new(Ipv4Addr::UNSPECIFIED, 0), POD_INTERFACE, via);
        send(batch, &format!("configure {address}"))?;
        Ok(pod)
    }
}

fn configure(gateway: Cidr, local: &[Cidr]) -> Result<()> {
    let mut batch = Batch::default();
    address_on(&mut batch, LOOPBACK, Cidr::new(gateway.address, 32), SCOPE_GLOBAL);
    for range in local {
        let via = Via { scope: SCOPE_HOST, kind: TYPE_LOCAL, table: TABLE_LOCAL, ..Via::LINK };
        route(&mut batch, *range, LOOPBACK, via);
    }
    send(batch, "configure the switch")
}

/// Whether what a switch needs works here. For a process of one thread that ends afterwards.
pub(super) fn works() -> bool {
    let Ok(()) = sys::unshare(libc::CLONE_NEWNET).and_then(|()| loopback_up()) else { return false };
    let gateway = Cidr::new(Ipv4Addr::new(10, 42, 0, 1), 16);
    let mut batch = Batch::default();
    veth(&mut batch, (1000, "a"), (1001, "b"), None);
    forwarding(&mut batch, 1000);
    configure(gateway, &[Cidr::new(Ipv4Addr::new(10, 96, 0, 0), 16)]).is_ok() && send(batch, "try").is_ok()
}

pub(super) fn send(batch: Batch, what: &str) -> Result<()> {
    let socket = Socket::open(libc::NETLINK_ROUTE).step(|| format!("{what}: netlink"))?;
    socket.send(batch).map_err(|(words, e)| Error::io(format!("{what}: {words}"), e))
}

/// The fixed part of a link message; `up` is `IFF_UP` or nothing.
fn link(message: &mut Message<'_>, index: u32, up: u32) {
    message.raw(&[0; 4]).raw(&index.to_ne_bytes()).raw(&up.to_ne_bytes()).raw(&up.to_ne_bytes());
}

/// A veth pair, the second end in another namespace where one is given. The first is up; the kernel does not let the
/// second be while the pair is being made.
pub(super) fn veth(batch: &mut Batch, here: (u32, &str), there: (u32, &str), other: Option<&OwnedFd>) {
    let words = format!("create veth {}", here.1);
    batch.add(&words, libc::RTM_NEWLINK, CREATE, |m| {
        link(m, here.0, libc::IFF_UP as u32);
        m.text(IFLA_IFNAME, here.1).nest(IFLA_LINKINFO, |m| {
            m.put(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |m| {
                m.nest(VETH_INFO_PEER, |m| {
                    link(m, there.0, 0);
                    m.text(IFLA_IFNAME, there.1);
                    if let Some(other) = other {
                        m.number(IFLA_NET_NS_FD, other.as_raw_fd() as u32);
                    }
                });
            });
        });
    });
}

/// Delete a link, and with it the other end of a pair.
pub(super) fn delete(batch: &mut Batch, index: u32) {
    batch.add("delete link", libc::RTM_DELLINK, 0, |m| link(m, index, 0));
}

/// Bring a link up.
pub(super) fn up(batch: &mut Batch, index: u32) {
    batch.add("bring a link up", libc::RTM_NEWLINK, 0, |m| link(m, index, libc::IFF_UP as u32));
}

/// Let packets that come in on this link be forwarded; no other link's setting is touched.
pub(super) fn forwarding(batch: &mut Batch, index: u32) {
    batch.add("enable forwarding", libc::RTM_SETLINK, 0, |m| {
        link(m, index, 0);
        m.nest(IFLA_AF_SPEC, |m| {
            m.nest(libc::AF_INET as u16, |m| {
                m.nest(IFLA_INET_CONF, |m| {
                    m.number(CONF_FORWARDING, 1);
                });
            });
        });
    });
}

pub(super) fn address_on(batch: &mut Batch, index: u32, address: Cidr, scope: u8) {
    batch.add(&format!("address {address}"), libc::RTM_NEWADDR, CREATE, |m| {
        m.raw(&[libc::AF_INET as u8, address.prefix, 0, scope]).raw(&index.to_ne_bytes());
        m.put(IFA_LOCAL, &address.address.octets()).put(IFA_ADDRESS, &address.address.octets());
    });
}

/// How a route leads on.
#[derive(Clone, Copy)]
pub(super) struct Via {
    gateway: Option<Ipv4Addr>,
    source: Option<Ipv4Addr>,
    scope: u8,
    kind: u8,
    table: u8,
}

impl Via {
    /// Directly over the link.
    const LINK: Via = Via { gateway: None, source: None, scope: SCOPE_LINK, kind: TYPE_UNICAST, table: TABLE_MAIN };
    /// Through a gateway.
    pub(super) const fn gateway(gateway: Ipv4Addr) -> Via {
        Via { gateway: Some(gateway), scope: SCOPE_GLOBAL, ..Via::LINK }
    }
}

pub(super) fn route(batch: &mut Batch, to: Cidr, index: u32, via: Via) {
    const PROTOCOL_STATIC: u8 = 4;
    batch.add(&format!("route {to}"), libc::RTM_NEWROUTE, CREATE, |m| {
        m.raw(&[libc::AF_INET as u8, to.prefix, 0, 0, via.table, PROTOCOL_STATIC, via.scope, via.kind]).raw(&[0; 4]);
        if to.prefix > 0 {
            m.put(RTA_DST, &to.address.octets());
        }
        m.number(RTA_OIF, index);
        if let Some(gateway) = via.gateway {
            m.put(RTA_GATEWAY, &gateway.octets());
        }
        if let Some(source) = via.source {
            m.put(RTA_PREFSRC, &source.octets());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let pods = Cidr::new(Ipv4Addr::new(10, 42, 0, 1), 16);
        assert!(pods.contains(Ipv4Addr::new(10, 42, 255, 7)) && !pods.contains(Ipv4Addr::new(10, 43, 0, 1)));
        assert!(Cidr::new(Ipv4Addr::UNSPECIFIED, 0).contains(Ipv4Addr::BROADCAST));
        assert_eq!(pods.to_string(), "10.42.0.1/16");
    }
}
