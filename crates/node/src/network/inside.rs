//! The cluster's names for those who move artifacts: a Service is reached as it would be in a Pod of the step's
//! namespace, through the switch. It never answers a name that a Pod would look up outside.

use super::{Fabric, dns};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use windlass_artifacts::Dial;

/// The names that Pods of one namespace see.
pub(crate) struct Names {
    pub(crate) fabric: Fabric,
    pub(crate) namespace: String,
}

impl Names {
    fn addresses(&self, host: &str) -> Option<Vec<Ipv4Addr>> {
        if let Ok(IpAddr::V4(address)) = host.parse() {
            let ours = super::SERVICES.contains(address) || super::PODS.contains(address);
            return ours.then(|| vec![address]);
        }
        let table = self.fabric.table.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        dns::addresses(&table, &self.namespace, host)
    }
}

impl Dial for Names {
    fn knows(&self, host: &str) -> bool {
        self.addresses(host).is_some()
    }

    fn dial(&self, host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
        let addresses = self.addresses(host).unwrap_or_default();
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("the Service {host} is gone"));
        for address in addresses {
            let to = SocketAddr::new(address.into(), port);
            let dialled = self.fabric.switch().run(|| TcpStream::connect_timeout(&to, timeout));
            match dialled.map_err(io::Error::other)? {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let text = format!("{host}:{port} in the namespace {} ({to}): {error}", self.namespace);
                    last = io::Error::new(error.kind(), text);
                }
            }
        }
        Err(last)
    }
}
