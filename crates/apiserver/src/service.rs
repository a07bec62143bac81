//! Addresses of Services: cluster IPs out of 10.96.0.0/16 and node ports out of 30000–32767, never given twice. What is
//! taken is read from the stored Services at opening.

use crate::answer::{ApiError, FieldError};
use crate::kinds::Resource;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const NETWORK: u32 = u32::from_be_bytes([10, 96, 0, 0]);
const NETWORK_SIZE: u32 = 1 << 16;
/// Below this offset addresses are only given when asked for: the API's own, the DNS server's.
const DYNAMIC_FROM: u32 = 256;
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

#[derive(Debug, Default)]
struct Taken {
    ips: HashSet<u32>,
    ports: HashSet<u16>,
}

/// What is given out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    taken: Arc<Mutex<Taken>>,
}

/// Addresses given for a write that may still fail; they go back unless the write is done.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    from: Addresses,
    ips: Vec<u32>,
    ports: Vec<u16>,
}

impl Reserved {
    /// The write is done.
    pub(crate) fn keep(mut self) {
        self.ips.clear();
        self.ports.clear();
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.ips.is_empty() && self.ports.is_empty() {
            return;
        }
        let mut taken = self.from.lock();
        for ip in &self.ips {
            taken.ips.remove(ip);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

impl Addresses {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the addresses of a stored Service.
    pub(crate) fn note(&self, service: &Value) {
        let mut taken = self.lock();
        taken.ips.extend(ips(service));
        taken.ports.extend(ports(service));
    }

    /// Takes back what a Service had and no longer has.
    pub(crate) fn release(&self, old: &Value, new: Option<&Value>) {
        let (kept_ips, kept_ports) = new.map(|n| (ips(n), ports(n))).unwrap_or_default();
        let mut taken = self.lock();
        for ip in ips(old).iter().filter(|ip| !kept_ips.contains(ip)) {
            taken.ips.remove(ip);
        }
        for port in ports(old).iter().filter(|port| !kept_ports.contains(port)) {
            taken.ports.remove(port);
        }
    }

    /// Completes a Service that is about to be written.
    pub(crate) fn assign(&self, r: &Resource, new: &mut Value, old: Option<&Value>) -> Result<Reserved, ApiError> {
        let mut reserved = Reserved { from: self.clone(), ips: Vec::new(), ports: Vec::new() };
        let kind = new["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
        let name = new["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let invalid = |e: FieldError| ApiError::invalid(r, &name, &[e]);
        if !new["spec"].is_object() {
            return Ok(reserved);
        }
        if kind == "ExternalName" {
            return Ok(reserved);
        }
        self.assign_ip(new, old, &mut reserved).map_err(invalid)?;
        if kind == "NodePort" || kind == "LoadBalancer" {
            self.assign_ports(new, old, &mut reserved).map_err(invalid)?;
        } else if let Some(old) = old {
            // Back to ClusterIP: ports that only came over from the old object go.
            for (index, port) in new["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate() {
                if port["nodePort"] == old["spec"]["ports"][index]["nodePort"]
                    && let Some(port) = port.as_object_mut()
                {
                    port.remove("nodePort");
                }
            }
        }
        Ok(reserved)
    }

    fn assign_ip(&self, new: &mut Value, old: Option<&Value>, reserved: &mut Reserved) -> Result<(), FieldError> {
        let had = old.map(|o| o["spec"]["clusterIP"].as_str().unwrap_or_default()).unwrap_or_default().to_owned();
        let asked = new["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let was_external = old.is_some_and(|o| o["spec"]["type"] == "ExternalName");
        let ip = if !had.is_empty() && !was_external {
            if !asked.is_empty() && asked != had {
                let message = format!("Invalid value: []string{{{asked:?}}}: may not change once set");
                let field = "spec.clusterIPs[0]".to_owned();
                return Err(FieldError { reason: "FieldValueInvalid", field, message });
            }
            had
        } else if asked == "None" {
            asked
        } else {
            let mut taken = self.lock();
            let number = if asked.is_empty() {
                free_ip(&taken.ips).ok_or_else(|| {
                    FieldError::invalid("spec.clusterIPs", &json!([]), "failed to allocate IP: range is full")
                })?
            } else {
                let refuse = |why: &str| {
                    let message = format!("Invalid value: []string{{{asked:?}}}: failed to allocate IP {asked}: {why}");
                    FieldError { reason: "FieldValueInvalid", field: "spec.clusterIPs".to_owned(), message }
                };
                let number: u32 = asked.parse::<Ipv4Addr>().map_err(|_| refuse("not an IPv4 address"))?.into();
                if number.wrapping_sub(NETWORK) >= NETWORK_SIZE {
                    return Err(refuse(
                        "the provided IP is not in the valid range. The range of valid IPs is 10.96.0.0/16",
                    ));
                }
                if taken.ips.contains(&number) {
                    return Err(refuse("provided IP is already allocated"));
                }
                number
            };
            taken.ips.insert(number);
            reserved.ips.push(number);
            Ipv4Addr::from(number).to_string()
        };
        new["spec"]["clusterIPs"] = json!([ip]);
        new["spec"]["clusterIP"] = json!(ip);
        Ok(())
    }

    fn assign_ports(&self, new: &mut Value, old: Option<&Value>, reserved: &mut Reserved) -> Result<(), FieldError> {
        let had = old.map(ports).unwrap_or_default();
        let old_ports = old.map(|o| o["spec"]["ports"].as_array().cloned().unwrap_or_default()).unwrap_or_default();
        let mut taken = self.lock();
        let mut used: HashSet<u16> = HashSet::new();
        for (index, port) in new["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate() {
            let field = format!("spec.ports[{index}].nodePort");
            let asked = port["nodePort"].as_u64().unwrap_or(0);
            if asked != 0 {
                let number = u16::try_from(asked).ok().filter(|p| NODE_PORTS.contains(p)).ok_or_else(|| {
                    let why = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                    FieldError::invalid(&field, &json!(asked), why)
                })?;
                if had.contains(&number) || used.contains(&number) {
                    used.insert(number);
                    continue;
                }
                if !taken.ports.insert(number) {
                    return Err(FieldError::invalid(&field, &json!(asked), "provided port is already allocated"));
                }
                used.insert(number);
                reserved.ports.push(number);
                continue;
            }
            // A port that was there keeps its number, also when the new object does not repeat it.
            let kept = old_ports.iter().find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
            let kept = kept.and_then(|o| o["nodePort"].as_u64()).and_then(|p| u16::try_from(p).ok());
            let number = match kept.filter(|p| !used.contains(p)) {
                Some(number) => number,
                None => {
                    let number = free_port(&taken.ports).ok_or_else(|| {
                        FieldError::invalid(&field, &json!(0), "failed to allocate a nodePort: range is full")
                    })?;
                    taken.ports.insert(number);
                    reserved.ports.push(number);
                    number
                }
            };
            used.insert(number);
            port["nodePort"] = json!(number);
        }
        Ok(())
    }
}

fn free_ip(taken: &HashSet<u32>) -> Option<u32> {
    let range = DYNAMIC_FROM..NETWORK_SIZE - 1;
    let start = rand::random_range(range.clone());
    (start..range.end).chain(range.start..start).map(|offset| NETWORK + offset).find(|ip| !taken.contains(ip))
}

fn free_port(taken: &HashSet<u16>) -> Option<u16> {
    let start = rand::random_range(NODE_PORTS);
    (start..=*NODE_PORTS.end()).chain(*NODE_PORTS.start()..start).find(|port| !taken.contains(port))
}

fn ips(service: &Value) -> Vec<u32> {
    let ip = service["spec"]["clusterIP"].as_str().and_then(|t| t.parse::<Ipv4Addr>().ok());
    ip.map(u32::from).into_iter().collect()
}

fn ports(service: &Value) -> Vec<u16> {
    let list = service["spec"]["ports"].as_array().into_iter().flatten();
    list.filter_map(|p| p["nodePort"].as_u64()).filter_map(|p| u16::try_from(p).ok()).filter(|&p| p != 0).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn service(spec: Value) -> Value {
        json!({"metadata": {"name": "s"}, "spec": spec})
    }

    #[test]
    fn addresses_are_given_once_and_come_back() {
        let registry = crate::Registry::builtin();
        let r = registry.find("", "v1", "services").unwrap();
        let addresses = Addresses::default();
        let mut one =
            service(json!({"clusterIP": "10.96.0.10", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}));
        addresses.assign(r, &mut one, None).unwrap().keep();
        let mut two = service(json!({"clusterIP": "10.96.0.10"}));
        let error = addresses.assign(r, &mut two, None).unwrap_err();
        assert_eq!(
            error.message,
            "Service \"s\" is invalid: spec.clusterIPs: Invalid value: []string{\"10.96.0.10\"}: failed to allocate IP \
             10.96.0.10: provided IP is already allocated"
        );
        // A write that fails gives back what it had reserved.
        let mut three = service(json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2, "nodePort": 30080}]}));
        assert!(addresses.assign(r, &mut three, None).is_err());
        assert_eq!(addresses.lock().ips.len(), 1);
        assert_eq!(addresses.lock().ports.len(), 1);
        addresses.release(&one, None);
        assert!(addresses.lock().ips.is_empty() && addresses.lock().ports.is_empty());
        let mut headless = service(json!({"clusterIP": "None"}));
        addresses.assign(r, &mut headless, None).unwrap().keep();
        assert!(addresses.lock().ips.is_empty());
    }
}
