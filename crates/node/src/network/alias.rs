//! Hosts of the outside world that another server stands in for: inside Pods their names lead to an address of ours, and
//! from there to that server, byte by byte. So a program of the user's own, which knows nothing of a remap table, reaches
//! what the table says. It never looks into a connection: who speaks TLS there does so with the server itself.

use super::{REGISTRY_NAME, proxy};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpListener, TcpStream};

/// A host and who stands in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The name, without a port.
    pub host: String,
    /// The ports on which it is asked.
    pub ports: Vec<u16>,
    /// `HOST:PORT` of the server, as this machine reaches it.
    pub to: String,
}

/// Addresses of 10.96.0.0/16 that are never given to a Service.
const FIRST: u8 = 128;
const LAST: u8 = 254;

/// The address of each host; those that are too many have none.
pub(super) fn addresses(all: &[StandIn]) -> BTreeMap<String, Ipv4Addr> {
    let mut found = BTreeMap::new();
    let mut free = FIRST..=LAST;
    for stand_in in all {
        if !found.contains_key(&stand_in.host)
            && let Some(last) = free.next()
        {
            found.insert(stand_in.host.clone(), Ipv4Addr::new(10, 96, 0, last));
        }
    }
    found
}

/// Carries every connection of `listener` to the server.
pub(super) async fn serve(listener: TcpListener, to: String, registry: Option<SocketAddr>) {
    loop {
        let Ok((mut from, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let to = to.clone();
        tokio::spawn(async move {
            match connect(&to, registry).await {
                Ok(mut stream) => {
                    let _ = from.set_nodelay(true);
                    let _ = stream.set_nodelay(true);
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut stream).await;
                }
                Err(error) => {
                    tracing::warn!(server = %to, %error, "the server that a remap rule names was not reached");
                    // A reset, not an orderly end: the caller sees that nobody answered.
                    let _ = from.set_zero_linger();
                }
            }
        });
    }
}

async fn connect(to: &str, registry: Option<SocketAddr>) -> io::Result<TcpStream> {
    let host = to.rsplit_once(':').map_or(to, |(host, _)| host);
    let connecting = async {
        match registry.filter(|_| host == REGISTRY_NAME) {
            Some(registry) => TcpStream::connect(registry).await,
            None => TcpStream::connect(to).await,
        }
    };
    tokio::time::timeout(proxy::CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|e| Err(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_one_address() {
        let one = |host: &str| StandIn { host: host.into(), ports: vec![80], to: "127.0.0.1:1".into() };
        let found = addresses(&[one("b.example"), one("a.example"), one("b.example")]);
        let text: Vec<String> = found.iter().map(|(host, ip)| format!("{host} {ip}")).collect();
        assert_eq!(text, ["a.example 10.96.0.129", "b.example 10.96.0.128"]);
        let many: Vec<StandIn> = (0..200).map(|n| one(&format!("h{n}"))).collect();
        assert_eq!(addresses(&many).len(), 127);
    }
}
