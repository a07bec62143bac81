//! The Pods' network on this machine: one switch namespace, an address for each Pod, the API, DNS, the registry and
//! every Service inside it, and Services of type NodePort and LoadBalancer on this machine's loopback. It never listens
//! on anything but loopback outside of the switch.

pub(crate) mod alias;
pub(crate) mod dns;
pub(crate) mod inside;
mod pool;
pub(crate) mod proxy;
pub(crate) mod table;

use crate::event::Events;
use alias::StandIn;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use pool::{Connected, Pool};
use proxy::{Connections, Entrances, Router};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;
use table::{Entrance, Table};
use tokio::sync::watch;
use windlass_artifacts::Inside;
use windlass_sandbox::net::{Cidr, Netns, Outward, Switch};

/// Where Pods find the API.
pub const API_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where Pods find DNS.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Where Pods find the built-in registry.
pub const REGISTRY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 11);
/// The built-in registry's name.
pub const REGISTRY_NAME: &str = "registry.windlass.internal";

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
const POD_PREFIX: u8 = 16;
const PODS: Cidr = Cidr { address: GATEWAY, prefix: POD_PREFIX };
const SERVICES: Cidr = Cidr { address: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 };

/// Why a Pod has no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("no free pod address in 10.42.0.0/16")]
    Exhausted,
    #[error("pod network: {0}")]
    Sandbox(#[from] windlass_sandbox::Error),
}

/// The network. Clones are the same network.
#[derive(Clone)]
pub(crate) struct Fabric {
    switch: Switch,
    table: Arc<RwLock<Table>>,
    changed: Arc<watch::Sender<u64>>,
    connections: Arc<Connections>,
    addresses: Arc<Mutex<Addresses>>,
    pool: Pool,
    /// The namespace of all Pods with `hostNetwork`, while there is one.
    shared: Arc<tokio::sync::Mutex<Weak<Lease>>>,
    outward: Arc<Outward>,
}

/// What is forwarded from inside the switch to this machine's loopback.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    pub(crate) api: SocketAddr,
    pub(crate) registry: Option<SocketAddr>,
    pub(crate) outward: bool,
    pub(crate) stand_ins: Vec<StandIn>,
}

/// Pod addresses: taken in order, so that an address rests before it is used again.
#[derive(Debug, Default)]
struct Addresses {
    next: u16,
    used: BTreeSet<u16>,
}

impl Addresses {
    fn take(&mut self) -> Option<u16> {
        // 0 is the network, 1 the gateway, 65535 the broadcast.
        for _ in 2..u16::MAX {
            self.next = if (2..u16::MAX - 1).contains(&self.next) { self.next + 1 } else { 2 };
            if self.used.insert(self.next) {
                return Some(self.next);
            }
        }
        None
    }
}

/// A Pod's network namespace and address; both are given back when the last clone goes.
#[derive(Clone)]
pub(crate) struct Attachment {
    pub(crate) address: Ipv4Addr,
    lease: Arc<Lease>,
}

struct Lease {
    fabric: Fabric,
    connected: Connected,
    again: AtomicBool,
}

impl Attachment {
    fn new(fabric: Fabric, connected: Connected) -> Self {
        let address = pod_address(connected.number);
        Self { address, lease: Arc::new(Lease { fabric, connected, again: AtomicBool::new(false) }) }
    }

    /// The namespace.
    pub(crate) fn netns(&self) -> &Netns {
        &self.lease.connected.netns
    }

    /// Says that the Pod's processes have ended, that none could change the namespace, and that nobody was told of the
    /// address: given back, it may serve another Pod at once, if nothing was said in it.
    pub(crate) fn use_again(&self) {
        self.lease.again.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (fabric, connected) = (self.fabric.clone(), self.connected.clone());
        if self.again.load(Ordering::Relaxed) {
            self.fabric.pool.give(connected, move |refused| fabric.free(refused.number));
        } else {
            fabric.free(connected.number);
        }
    }
}

/// An address on its way to a Pod; free again where the way ends early.
struct Reserved<'a> {
    fabric: &'a Fabric,
    number: Option<u16>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.fabric.free(number);
        }
    }
}

fn pod_address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 42, high, low)
}

impl Fabric {
    /// Makes the switch and opens the doors.
    pub(crate) async fn create(doors: &Doors) -> Result<Self, NetworkError> {
        let switch = Switch::create(Cidr { address: GATEWAY, prefix: POD_PREFIX }, &[SERVICES])?;
        let outward = if doors.outward { switch.connect_outward() } else { Outward::None("switched off".to_owned()) };
        let pool = Pool::new(switch.netns());
        let fabric = Self {
            switch,
            table: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
            connections: Arc::default(),
            addresses: Arc::default(),
            pool,
            shared: Arc::default(),
            outward: Arc::new(outward),
        };
        fabric.open(doors).await?;
        Ok(fabric)
    }

    async fn open(&self, doors: &Doors) -> Result<(), NetworkError> {
        let netns = self.switch.netns();
        let api = netns.tcp_listener(SocketAddr::new(API_ADDRESS.into(), 443)).await?;
        tokio::spawn(proxy::forward(api, doors.api));
        if let Some(registry) = doors.registry {
            for port in BTreeSet::from([80, registry.port()]) {
                let listener = netns.tcp_listener(SocketAddr::new(REGISTRY_ADDRESS.into(), port)).await?;
                tokio::spawn(proxy::forward(listener, registry));
            }
        }
        let upstream = match *self.outward {
            Outward::Works(_) => {
                dns::upstream(&tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default())
            }
            Outward::None(_) => Vec::new(),
        };
        let aliases = alias::addresses(&doors.stand_ins);
        for stand_in in &doors.stand_ins {
            let Some(address) = aliases.get(&stand_in.host) else {
                tracing::warn!(host = %stand_in.host, "too many remapped hosts: pods do not reach this one by its name");
                continue;
            };
            for port in &stand_in.ports {
                match netns.tcp_listener(SocketAddr::new((*address).into(), *port)).await {
                    Ok(listener) => drop(tokio::spawn(alias::serve(listener, stand_in.to.clone(), doors.registry))),
                    Err(error) => tracing::warn!(host = %stand_in.host, port, %error, "not opened inside pods"),
                }
            }
        }
        self.change(|table| table.set_aliases(aliases));
        let server = Arc::new(dns::Server { table: self.table.clone(), upstream });
        let address = SocketAddr::new(DNS_ADDRESS.into(), 53);
        tokio::spawn(server.clone().serve_udp(netns.udp_socket(address).await?));
        tokio::spawn(server.serve_tcp(netns.tcp_listener(address).await?));
        Ok(())
    }

    /// Whether and how Pods reach networks outside.
    pub(crate) fn outward(&self) -> &Outward {
        &self.outward
    }

    /// A namespace and an address for one Pod.
    pub(crate) async fn attach(&self) -> Result<Attachment, NetworkError> {
        if let Some(connected) = self.pool.take() {
            return Ok(Attachment::new(self.clone(), connected));
        }
        let number =
            self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(NetworkError::Exhausted)?;
        let mut reserved = Reserved { fabric: self, number: Some(number) };
        let netns = self.switch.attach(pod_address(number)).await?;
        reserved.number = None;
        Ok(Attachment::new(self.clone(), Connected { netns, number }))
    }

    /// The namespace and address that all Pods with `hostNetwork` share: the network of this node, as they see it. It
    /// is made for the first of them and goes with the last.
    pub(crate) async fn attach_shared(&self) -> Result<Attachment, NetworkError> {
        let mut shared = self.shared.lock().await;
        if let Some(lease) = shared.upgrade() {
            return Ok(Attachment { address: pod_address(lease.connected.number), lease });
        }
        let number =
            self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(NetworkError::Exhausted)?;
        let mut reserved = Reserved { fabric: self, number: Some(number) };
        let netns = self.switch.attach(pod_address(number)).await?;
        reserved.number = None;
        let attachment = Attachment::new(self.clone(), Connected { netns, number });
        *shared = Arc::downgrade(&attachment.lease);
        Ok(attachment)
    }

    /// The address may be given to another Pod, after all those that have not been used for longer.
    fn free(&self, number: u16) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).used.remove(&number);
        let address = pod_address(number).into();
        let retired = self.table.read().unwrap_or_else(PoisonError::into_inner).is_retired(address);
        if retired {
            self.change(|table| table.unretire(address));
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Table)) {
        edit(&mut self.table.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
    }

    /// No new connection goes to this Pod any more; waits for the established ones, at most `patience`.
    pub(crate) async fn retire(&self, address: IpAddr, patience: Duration) {
        self.change(|table| table.retire(address));
        self.connections.drained(address, patience).await;
    }

    /// The Services' environment variables of a namespace.
    pub(crate) fn service_variables(&self, namespace: &str, links: bool) -> Vec<(String, String)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        crate::env::services(table.services(), namespace, links)
    }

    /// The cluster's names, as Pods of this namespace see them.
    pub(crate) fn names(&self, namespace: &str) -> Inside {
        Inside::new(Arc::new(inside::Names { fabric: self.clone(), namespace: namespace.to_owned() }))
    }

    /// Connects to a Pod from inside the switch, as a probe does.
    pub(crate) fn switch(&self) -> &Netns {
        self.switch.netns()
    }

    /// Follows Services and EndpointSlices for ever.
    pub(crate) async fn run(self, client: kube::Client, events: Events) {
        let services = self.clone().watch_services(client.clone());
        let slices = self.clone().watch_slices(client.clone());
        let entrances = self.keep_entrances(client, events);
        tokio::join!(services, slices, entrances);
    }

    async fn watch_services(self, client: kube::Client) {
        let stream = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut fresh: Option<Vec<Service>> = None;
        loop {
            match stream.try_next().await {
                Ok(Some(watcher::Event::Apply(service))) => self.change(|t| t.put_service(service)),
                Ok(Some(watcher::Event::Delete(service))) => self.change(|t| t.drop_service(&service)),
                Ok(Some(watcher::Event::Init)) => fresh = Some(Vec::new()),
                Ok(Some(watcher::Event::InitApply(service))) => fresh.get_or_insert_default().push(service),
                Ok(Some(watcher::Event::InitDone)) => {
                    let all = fresh.take().unwrap_or_default();
                    self.change(|t| {
                        t.clear_services();
                        all.into_iter().for_each(|s| t.put_service(s));
                    });
                }
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, "watching services"),
            }
        }
    }

    async fn watch_slices(self, client: kube::Client) {
        let stream = watcher(Api::<EndpointSlice>::all(client), watcher::Config::default()).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut fresh: Option<Vec<EndpointSlice>> = None;
        loop {
            match stream.try_next().await {
                Ok(Some(watcher::Event::Apply(slice))) => self.change(|t| t.put_slice(slice)),
                Ok(Some(watcher::Event::Delete(slice))) => self.change(|t| t.drop_slice(&slice)),
                Ok(Some(watcher::Event::Init)) => fresh = Some(Vec::new()),
                Ok(Some(watcher::Event::InitApply(slice))) => fresh.get_or_insert_default().push(slice),
                Ok(Some(watcher::Event::InitDone)) => {
                    let all = fresh.take().unwrap_or_default();
                    self.change(|t| {
                        t.clear_slices();
                        all.into_iter().for_each(|s| t.put_slice(s));
                    });
                }
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, "watching endpoint slices"),
            }
        }
    }

    async fn keep_entrances(self, client: kube::Client, events: Events) {
        let router = Router {
            table: self.table.clone(),
            changed: self.changed.subscribe(),
            switch: self.switch.netns().clone(),
            connections: self.connections.clone(),
            turn: Arc::new(AtomicUsize::new(0)),
        };
        let mut entrances = Entrances::default();
        let mut ticks = tokio_stream::wrappers::WatchStream::new(self.changed.subscribe());
        while ticks.next().await.is_some() {
            let (wanted, balanced) = {
                let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
                (table.entrances(), unannounced(&table))
            };
            for (entrance, target, error) in entrances.sync(wanted, &router).await {
                let text = match entrance {
                    Entrance::Cluster(address) => format!("cannot listen on {address}: {error}"),
                    Entrance::Node(port) => format!("node port 127.0.0.1:{port} is not available: {error}"),
                    Entrance::Loopback(port) => {
                        format!("127.0.0.1:{port} is not available, use the node port: {error}")
                    }
                };
                tracing::warn!(service = %format!("{}/{}", target.service.0, target.service.1), "{text}");
                let (namespace, name) = &target.service;
                events.service_warning(namespace, name, "EntranceFailed", &text);
            }
            for (namespace, name) in balanced {
                let api: Api<Service> = Api::namespaced(client.clone(), &namespace);
                let body = serde_json::json!({"status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}});
                if let Err(error) = api.patch_status(&name, &PatchParams::default(), &Patch::Merge(body)).await {
                    tracing::debug!(%error, %namespace, %name, "load balancer status");
                }
            }
        }
    }
}

/// LoadBalancer Services whose status does not tell their address yet.
fn unannounced(table: &Table) -> Vec<table::Key> {
    let waiting = table.services().filter(|service| {
        let balanced = service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
        let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let announced = status.and_then(|b| b.ingress.as_ref()).is_some_and(|i| !i.is_empty());
        balanced && !announced && service.metadata.deletion_timestamp.is_none()
    });
    waiting.filter_map(|s| Some((s.metadata.namespace.clone()?, s.metadata.name.clone()?))).collect()
}

/// `/etc/hosts` of a Pod.
pub(crate) fn hosts_file(
    address: &str,
    hostname: &str,
    subdomain: Option<(&str, &str)>,
    aliases: &[(String, Vec<String>)],
) -> String {
    let mut text = String::from("# Managed by the node agent.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n");
    match subdomain {
        Some((subdomain, namespace)) => {
            let full = format!("{hostname}.{subdomain}.{namespace}.svc.cluster.local");
            text.push_str(&format!("{address}\t{full}\t{hostname}\n"));
        }
        None => text.push_str(&format!("{address}\t{hostname}\n")),
    }
    for (ip, names) in aliases {
        text.push_str(&format!("{ip}\t{}\n", names.join("\t")));
    }
    text
}

/// `/etc/resolv.conf` of a Pod that asks the cluster's DNS, but has none of its short names.
pub(crate) fn node_resolv_conf() -> String {
    format!("nameserver {DNS_ADDRESS}\n")
}

/// `/etc/resolv.conf` of a Pod with the cluster's DNS.
pub(crate) fn resolv_conf(namespace: &str, servers: &[String], searches: &[String], options: &[String]) -> String {
    let own = [format!("{namespace}.svc.cluster.local"), "svc.cluster.local".to_owned(), "cluster.local".to_owned()];
    let searches: Vec<&str> = own.iter().chain(searches).map(String::as_str).collect();
    let mut text = format!("search {}\nnameserver {DNS_ADDRESS}\n", searches.join(" "));
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let mut all = vec!["ndots:5".to_owned()];
    all.extend(options.iter().cloned());
    text.push_str(&format!("options {}\n", all.join(" ")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_rest_before_they_are_used_again() {
        let mut addresses = Addresses::default();
        assert_eq!((addresses.take(), addresses.take()), (Some(2), Some(3)));
        addresses.used.remove(&2);
        assert_eq!(addresses.take(), Some(4));
        addresses.next = u16::MAX - 2;
        assert_eq!(addresses.take(), Some(u16::MAX - 1));
        assert_eq!(addresses.take(), Some(2));
        assert_eq!(pod_address(0x0102), Ipv4Addr::new(10, 42, 1, 2));
    }

    #[test]
    fn files_of_a_pod() {
        let hosts = hosts_file("10.42.0.2", "web-0", Some(("web", "a")), &[("10.0.0.1".into(), vec!["db".into()])]);
        assert!(hosts.contains("10.42.0.2\tweb-0.web.a.svc.cluster.local\tweb-0\n"));
        assert!(hosts.ends_with("10.0.0.1\tdb\n"));
        assert!(
            resolv_conf("a", &[], &[], &[]).starts_with("search a.svc.cluster.local svc.cluster.local cluster.local\n")
        );
    }
}
