//! Names inside Pods: Services, Pods and the registry, from the table; everything else upstream where there is one.
//! The answer to a message is pure; the server moves bytes. It never caches.

use super::table::{Key, Table};
use super::{REGISTRY_ADDRESS, REGISTRY_NAME};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const DOMAIN: &str = "cluster.local";
const TTL_S: u32 = 5;
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(4);

/// What is known of a name.
#[derive(Debug, Default, PartialEq)]
struct Known {
    exists: bool,
    addresses: Vec<Ipv4Addr>,
    alias: Option<String>,
    services: Vec<(u16, String, Option<Ipv4Addr>)>,
}

/// The reply to one message, or that it is for the upstream.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Here(Vec<u8>),
    Upstream,
    Nothing,
}

/// Answers `bytes` from the table.
pub(crate) fn answer(table: &Table, bytes: &[u8]) -> Reply {
    let Ok(request) = Message::from_vec(bytes) else { return Reply::Nothing };
    if request.metadata.message_type != MessageType::Query {
        return Reply::Nothing;
    }
    let Some(query) = request.queries.first() else { return Reply::Nothing };
    if request.metadata.op_code != OpCode::Query || query.query_class() != DNSClass::IN {
        return failure(&request, ResponseCode::NotImp);
    }
    let name = query.name().to_ascii().to_lowercase();
    let name = name.trim_end_matches('.');
    let Some(known) = look_up(table, name) else { return Reply::Upstream };
    let mut response = reply_to(&request);
    response.metadata.authoritative = true;
    if !known.exists {
        response.metadata.response_code = ResponseCode::NXDomain;
        return encode(&response);
    }
    add(&mut response, query, known);
    encode(&response)
}

fn add(response: &mut Message, query: &Query, known: Known) {
    let owner = query.name().clone();
    let record = |owner: &Name, data| Record::from_rdata(owner.clone(), TTL_S, data);
    if let Some(alias) = known.alias.and_then(|a| Name::from_ascii(format!("{}.", a.trim_end_matches('.'))).ok()) {
        response.answers.push(record(&owner, RData::CNAME(CNAME(alias))));
        return;
    }
    match query.query_type() {
        RecordType::A | RecordType::ANY => {
            response.answers.extend(known.addresses.into_iter().map(|ip| record(&owner, RData::A(A(ip)))));
        }
        RecordType::SRV => {
            for (port, host, address) in known.services {
                let Ok(target) = Name::from_ascii(format!("{host}.")) else { continue };
                if let Some(address) = address {
                    response.additionals.push(record(&target, RData::A(A(address))));
                }
                response.answers.push(record(&owner, RData::SRV(SRV::new(0, 100, port, target))));
            }
        }
        // The name is there without such a record.
        _ => {}
    }
}

/// What is known of `name`; `None` where it is not ours to know.
fn look_up(table: &Table, name: &str) -> Option<Known> {
    if name == REGISTRY_NAME {
        return Some(Known { exists: true, addresses: vec![REGISTRY_ADDRESS], ..Known::default() });
    }
    if let Some(address) = table.alias(name) {
        return Some(Known { exists: true, addresses: vec![address], ..Known::default() });
    }
    let inner = name.strip_suffix(DOMAIN)?;
    if inner.is_empty() {
        return Some(Known { exists: true, ..Known::default() });
    }
    let inner = inner.strip_suffix('.')?;
    let labels: Vec<&str> = inner.split('.').collect();
    Some(match labels[..] {
        ["svc" | "pod"] | [_, "pod"] => Known { exists: true, ..Known::default() },
        [address, _, "pod"] => match address.replace('-', ".").parse() {
            Ok(ip) => Known { exists: true, addresses: vec![ip], ..Known::default() },
            Err(_) => Known::default(),
        },
        [namespace, "svc"] => {
            let exists = table.services().any(|s| s.metadata.namespace.as_deref() == Some(namespace));
            Known { exists, ..Known::default() }
        }
        [name, namespace, "svc"] => service(table, &(namespace.to_owned(), name.to_owned())),
        [host, name, namespace, "svc"] => {
            let key = (namespace.to_owned(), name.to_owned());
            let hosts = table.hosts(&key).into_iter();
            let addresses: Vec<Ipv4Addr> =
                hosts.filter(|(_, h)| h.as_deref() == Some(host)).filter_map(|(ip, _)| v4(ip)).collect();
            Known { exists: !addresses.is_empty(), addresses, ..Known::default() }
        }
        [port, protocol, name, namespace, "svc"] => {
            srv(table, port, protocol, &(namespace.to_owned(), name.to_owned()))
        }
        _ => Known::default(),
    })
}

/// The addresses behind a name as a Pod of `namespace` would look it up; `None` where it is not ours to know.
pub(crate) fn addresses(table: &Table, namespace: &str, host: &str) -> Option<Vec<Ipv4Addr>> {
    let host = host.trim_end_matches('.').to_lowercase();
    let searched = [format!("{namespace}.svc.{DOMAIN}"), format!("svc.{DOMAIN}"), DOMAIN.to_owned()];
    let names = searched.iter().map(|search| format!("{host}.{search}")).chain([host.clone()]);
    let known = names.filter_map(|name| look_up(table, &name)).find(|known| known.exists)?;
    (!known.addresses.is_empty()).then_some(known.addresses)
}

fn service(table: &Table, key: &Key) -> Known {
    let Some(spec) = table.service(key).and_then(|s| s.spec.as_ref()) else {
        // The API is always there, even before its Service object has been seen.
        let api = key.0 == "default" && key.1 == "kubernetes";
        let addresses = if api { vec![super::API_ADDRESS] } else { Vec::new() };
        return Known { exists: api, addresses, ..Known::default() };
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Known { exists: true, alias: spec.external_name.clone(), ..Known::default() };
    }
    let addresses = match spec.cluster_ip.as_deref().unwrap_or("") {
        "None" => table.hosts(key).into_iter().filter_map(|(ip, _)| v4(ip)).collect(),
        ip => ip.parse().into_iter().collect(),
    };
    Known { exists: true, addresses, ..Known::default() }
}

fn srv(table: &Table, port: &str, protocol: &str, key: &Key) -> Known {
    let Some(spec) = table.service(key).and_then(|s| s.spec.as_ref()) else { return Known::default() };
    let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
        return Known::default();
    };
    let found = spec.ports.iter().flatten().find(|p| {
        p.name.as_deref() == Some(port) && p.protocol.as_deref().unwrap_or("TCP").eq_ignore_ascii_case(protocol)
    });
    let Some(number) = found.and_then(|p| u16::try_from(p.port).ok()) else { return Known::default() };
    let base = format!("{}.{}.svc.{DOMAIN}", key.1, key.0);
    let services = if spec.cluster_ip.as_deref() == Some("None") {
        let hosts = table.hosts(key).into_iter();
        hosts
            .map(|(ip, host)| {
                let host = host.unwrap_or_else(|| ip.to_string().replace(['.', ':'], "-"));
                (number, format!("{host}.{base}"), v4(ip))
            })
            .collect()
    } else {
        vec![(number, base, spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()))]
    };
    Known { exists: true, services, ..Known::default() }
}

fn v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn reply_to(request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.queries.clone_from(&request.queries);
    response
}

fn failure(request: &Message, code: ResponseCode) -> Reply {
    let mut response = reply_to(request);
    response.metadata.response_code = code;
    encode(&response)
}

fn encode(response: &Message) -> Reply {
    response.to_vec().map_or(Reply::Nothing, Reply::Here)
}

/// The server: one UDP socket and one TCP listener, both made inside the switch.
pub(crate) struct Server {
    pub(crate) table: Arc<RwLock<Table>>,
    /// Resolvers of this machine; none where Pods have no outward network.
    pub(crate) upstream: Vec<SocketAddr>,
}

impl Server {
    async fn reply(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let reply = answer(&self.table.read().unwrap_or_else(std::sync::PoisonError::into_inner), bytes);
        match reply {
            Reply::Here(bytes) => Some(bytes),
            Reply::Nothing => None,
            Reply::Upstream => {
                for server in &self.upstream {
                    match tokio::time::timeout(UPSTREAM_TIMEOUT, ask(*server, bytes)).await {
                        Ok(Ok(reply)) => return Some(reply),
                        Ok(Err(error)) => tracing::debug!(%server, %error, "upstream DNS"),
                        Err(_) => tracing::debug!(%server, "upstream DNS did not answer"),
                    }
                }
                let request = Message::from_vec(bytes).ok()?;
                match failure(&request, ResponseCode::ServFail) {
                    Reply::Here(bytes) => Some(bytes),
                    Reply::Upstream | Reply::Nothing => None,
                }
            }
        }
    }

    pub(crate) async fn serve_udp(self: Arc<Self>, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut buffer = vec![0u8; 4096];
        loop {
            let (size, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "DNS socket");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let (server, socket, bytes) = (self.clone(), socket.clone(), buffer[..size].to_vec());
            tokio::spawn(async move {
                if let Some(reply) = server.reply(&bytes).await {
                    let _ = socket.send_to(&fit(reply, &bytes), from).await;
                }
            });
        }
    }

    pub(crate) async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let session = async {
                    loop {
                        let length = stream.read_u16().await?;
                        let mut bytes = vec![0u8; usize::from(length)];
                        stream.read_exact(&mut bytes).await?;
                        let Some(reply) = server.reply(&bytes).await else { return Ok(()) };
                        stream.write_u16(u16::try_from(reply.len()).unwrap_or(0)).await?;
                        stream.write_all(&reply).await?;
                    }
                };
                let ended: Result<std::io::Result<()>, _> =
                    tokio::time::timeout(Duration::from_secs(30), session).await;
                drop(ended);
            });
        }
    }
}

/// Cut to what the asker can take over UDP.
fn fit(reply: Vec<u8>, request: &[u8]) -> Vec<u8> {
    let max = Message::from_vec(request).map_or(512, |m| usize::from(m.max_payload()).clamp(512, 4096));
    if reply.len() <= max {
        return reply;
    }
    let short = Message::from_vec(&reply).ok().and_then(|m| m.truncate().to_vec().ok());
    short.unwrap_or(reply)
}

/// One question to a resolver of this machine, again over TCP where the answer was cut.
async fn ask(server: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut reply = vec![0u8; 4096];
    let size = socket.recv(&mut reply).await?;
    reply.truncate(size);
    let cut = reply.get(2).is_some_and(|flags| flags & 0x02 != 0);
    if !cut {
        return Ok(reply);
    }
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(u16::try_from(bytes.len()).unwrap_or(0)).await?;
    stream.write_all(bytes).await?;
    let length = stream.read_u16().await?;
    let mut full = vec![0u8; usize::from(length)];
    stream.read_exact(&mut full).await?;
    Ok(full)
}

/// The resolvers that this machine's `resolv.conf` names.
pub(crate) fn upstream(resolv_conf: &str) -> Vec<SocketAddr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ask_table(name: &str, kind: RecordType) -> String {
        let table = super::super::table::tests::table();
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        match answer(&table, &message.to_vec().unwrap()) {
            Reply::Here(bytes) => {
                let reply = Message::from_vec(&bytes).unwrap();
                let answers: Vec<String> = reply.answers.iter().map(|r| r.data.to_string()).collect();
                format!("{:?} {}", reply.metadata.response_code, answers.join(","))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_of_the_cluster() {
        assert_eq!(ask_table("web.a.svc.cluster.local.", RecordType::A), "NoError 10.96.7.7");
        assert_eq!(ask_table("Web.A.svc.cluster.local.", RecordType::A), "NoError 10.96.7.7");
        assert_eq!(ask_table("web.a.svc.cluster.local.", RecordType::AAAA), "NoError ");
        assert_eq!(ask_table("db.a.svc.cluster.local.", RecordType::A), "NoError 10.42.0.9");
        assert_eq!(ask_table("db-0.db.a.svc.cluster.local.", RecordType::A), "NoError 10.42.0.9");
        assert_eq!(ask_table("out.a.svc.cluster.local.", RecordType::A), "NoError example.org.");
        assert_eq!(
            ask_table("_http._tcp.web.a.svc.cluster.local.", RecordType::SRV),
            "NoError 0 100 80 web.a.svc.cluster.local."
        );
        assert_eq!(ask_table("kubernetes.default.svc.cluster.local.", RecordType::A), "NoError 10.96.0.1");
        assert_eq!(ask_table("10-42-0-9.a.pod.cluster.local.", RecordType::A), "NoError 10.42.0.9");
        assert_eq!(ask_table("no.a.svc.cluster.local.", RecordType::A), "NXDomain ");
        assert_eq!(ask_table("web.a.svc.cluster.local.a.svc.cluster.local.", RecordType::A), "NXDomain ");
        assert_eq!(ask_table("registry.windlass.internal.", RecordType::A), "NoError 10.96.0.11");
        assert_eq!(ask_table("example.org.", RecordType::A), "Upstream");
    }

    #[test]
    fn short_names_as_in_a_pod() {
        let service =
            serde_json::json!({"metadata": {"name": "minio", "namespace": "ci"}, "spec": {"clusterIP": "10.96.3.4"}});
        let mut table = Table::default();
        table.put_service(serde_json::from_value(service).unwrap());
        let found = Some(vec![Ipv4Addr::new(10, 96, 3, 4)]);
        for name in ["minio", "Minio.ci", "minio.ci.svc", "minio.ci.svc.cluster.local."] {
            assert_eq!(addresses(&table, "ci", name), found, "{name}");
        }
        assert_eq!(addresses(&table, "other", "minio"), None);
        assert_eq!(addresses(&table, "other", "minio.ci"), found);
        assert_eq!(addresses(&table, "ci", "s3.amazonaws.com"), None);
    }

    #[test]
    fn resolvers_of_this_machine() {
        let found = upstream("# x\nnameserver 192.0.2.1\nsearch a\nnameserver ::1\n");
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["192.0.2.1:53", "[::1]:53"]);
    }
}
