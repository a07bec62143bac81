//! What the network knows of Services: where each may send a new connection. Pure data, changed by watch events; the
//! proxy and the DNS server read it. It never opens anything.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Namespace and name.
pub(crate) type Key = (String, String);

/// Services and their endpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, EndpointSlice>,
    /// Addresses of Pods that are being stopped here: known before their EndpointSlice says so.
    retired: BTreeSet<IpAddr>,
    /// Hosts of the outside world that are answered here.
    aliases: BTreeMap<String, Ipv4Addr>,
}

/// Where a listener of a Service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Entrance {
    /// A cluster address, inside the switch.
    Cluster(SocketAddr),
    /// A port on this machine's loopback that must be had (`nodePort`).
    Node(u16),
    /// A port on this machine's loopback that is taken where it is free (a LoadBalancer's own port).
    Loopback(u16),
}

/// What a listener leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) service: Key,
    pub(crate) port_name: Option<String>,
}

fn key(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<Key> {
    Some((meta.namespace.clone()?, meta.name.clone()?))
}

impl Table {
    pub(crate) fn put_service(&mut self, service: Service) {
        if let Some(key) = key(&service.metadata) {
            self.services.insert(key, service);
        }
    }

    pub(crate) fn drop_service(&mut self, service: &Service) {
        if let Some(key) = key(&service.metadata) {
            self.services.remove(&key);
        }
    }

    pub(crate) fn put_slice(&mut self, slice: EndpointSlice) {
        if let Some(key) = key(&slice.metadata) {
            self.slices.insert(key, slice);
        }
    }

    pub(crate) fn drop_slice(&mut self, slice: &EndpointSlice) {
        if let Some(key) = key(&slice.metadata) {
            self.slices.remove(&key);
        }
    }

    pub(crate) fn clear_services(&mut self) {
        self.services.clear();
    }

    pub(crate) fn clear_slices(&mut self) {
        self.slices.clear();
    }

    pub(crate) fn set_aliases(&mut self, aliases: BTreeMap<String, Ipv4Addr>) {
        self.aliases = aliases;
    }

    pub(crate) fn alias(&self, host: &str) -> Option<Ipv4Addr> {
        self.aliases.get(host).copied()
    }

    pub(crate) fn retire(&mut self, address: IpAddr) {
        self.retired.insert(address);
    }

    pub(crate) fn is_retired(&self, address: IpAddr) -> bool {
        self.retired.contains(&address)
    }

    pub(crate) fn unretire(&mut self, address: IpAddr) {
        self.retired.remove(&address);
    }

    pub(crate) fn service(&self, key: &Key) -> Option<&Service> {
        self.services.get(key)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    fn slices_of<'a>(&'a self, service: &'a Key) -> impl Iterator<Item = &'a EndpointSlice> {
        self.slices.iter().filter_map(move |((namespace, _), slice)| {
            let owner = slice.metadata.labels.as_ref()?.get("kubernetes.io/service-name")?;
            (*namespace == service.0 && *owner == service.1).then_some(slice)
        })
    }

    /// Where new connections to this port of this Service may go.
    pub(crate) fn ready(&self, target: &Target) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        for slice in self.slices_of(&target.service) {
            let name = target.port_name.as_deref().unwrap_or("");
            let ports = slice.ports.iter().flatten();
            let Some(port) = ports
                .filter(|p| p.name.as_deref().unwrap_or("") == name)
                .find_map(|p| p.port.and_then(|p| u16::try_from(p).ok()))
            else {
                continue;
            };
            for (address, ready, _) in addresses(slice) {
                if ready && !self.retired.contains(&address) {
                    found.push(SocketAddr::new(address, port));
                }
            }
        }
        found
    }

    /// The endpoint addresses of a headless Service, with their host names.
    pub(crate) fn hosts(&self, service: &Key) -> Vec<(IpAddr, Option<String>)> {
        let spec = self.services.get(service).and_then(|s| s.spec.as_ref());
        let all = spec.and_then(|s| s.publish_not_ready_addresses).unwrap_or(false);
        self.slices_of(service)
            .flat_map(addresses)
            .filter(|(_, ready, _)| *ready || all)
            .map(|(address, _, host)| (address, host))
            .collect()
    }

    /// Every entrance that must be open.
    pub(crate) fn entrances(&self) -> BTreeMap<Entrance, Target> {
        let mut wanted = BTreeMap::new();
        for (key, service) in &self.services {
            let Some(spec) = &service.spec else { continue };
            let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
            let address: Option<Ipv4Addr> = spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok());
            for port in spec.ports.iter().flatten().filter(|p| is_tcp(p)) {
                let target = Target { service: key.clone(), port_name: port.name.clone() };
                let Ok(number) = u16::try_from(port.port) else { continue };
                if let Some(address) = address.filter(|a| *a != super::API_ADDRESS) {
                    wanted.insert(Entrance::Cluster(SocketAddr::new(address.into(), number)), target.clone());
                }
                if matches!(kind, "NodePort" | "LoadBalancer") {
                    if let Some(node) = port.node_port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0) {
                        wanted.insert(Entrance::Node(node), target.clone());
                    }
                    if kind == "LoadBalancer" {
                        wanted.entry(Entrance::Loopback(number)).or_insert(target);
                    }
                }
            }
        }
        wanted
    }
}

/// Only TCP is proxied.
pub(crate) fn is_tcp(port: &ServicePort) -> bool {
    port.protocol.as_deref().unwrap_or("TCP") == "TCP"
}

fn addresses(slice: &EndpointSlice) -> Vec<(IpAddr, bool, Option<String>)> {
    let mut found = Vec::new();
    for endpoint in &slice.endpoints {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true)
            && !conditions.and_then(|c| c.terminating).unwrap_or(false);
        for address in &endpoint.addresses {
            if let Ok(address) = address.parse() {
                found.push((address, ready, endpoint.hostname.clone()));
            }
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn table() -> Table {
        let mut table = Table::default();
        let service = |value| serde_json::from_value::<Service>(value).unwrap();
        table.put_service(service(json!({"metadata": {"namespace": "a", "name": "web"}, "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.7.7",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "u", "port": 53, "protocol": "UDP"}]}})));
        table.put_service(service(json!({"metadata": {"namespace": "a", "name": "db"},
            "spec": {"clusterIP": "None", "ports": [{"port": 5432}]}})));
        table.put_service(service(json!({"metadata": {"namespace": "a", "name": "out"},
            "spec": {"type": "ExternalName", "externalName": "example.org"}})));
        let slice = |service: &str, port: serde_json::Value, endpoints: serde_json::Value| {
            serde_json::from_value::<EndpointSlice>(json!({"addressType": "IPv4",
                "metadata": {"namespace": "a", "name": format!("{service}-x"),
                    "labels": {"kubernetes.io/service-name": service}},
                "ports": [port], "endpoints": endpoints}))
            .unwrap()
        };
        table.put_slice(slice(
            "web",
            json!({"name": "http", "port": 8080}),
            json!([{"addresses": ["10.42.0.2"], "conditions": {"ready": true}},
                   {"addresses": ["10.42.0.3"], "conditions": {"ready": false}},
                   {"addresses": ["10.42.0.4"], "conditions": {"ready": true, "terminating": true}},
                   {"addresses": ["10.42.0.5"]}]),
        ));
        table.put_slice(slice("db", json!({"port": 5432}), json!([{"addresses": ["10.42.0.9"], "hostname": "db-0"}])));
        table
    }

    #[test]
    fn only_ready_endpoints_get_new_connections() {
        let mut table = table();
        let target = Target { service: ("a".into(), "web".into()), port_name: Some("http".into()) };
        let text = |t: &Table| t.ready(&target).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(&table), ["10.42.0.2:8080", "10.42.0.5:8080"]);
        table.retire("10.42.0.2".parse().unwrap());
        assert_eq!(text(&table), ["10.42.0.5:8080"]);
    }

    #[test]
    fn entrances_of_services() {
        let entrances: Vec<String> = table().entrances().keys().map(|e| format!("{e:?}")).collect();
        assert_eq!(entrances, ["Cluster(10.96.7.7:80)", "Node(30080)", "Loopback(80)"]);
    }
}
