//! Services: defaults and faults. Cluster IPs and node ports are given out where the store is. Pure.

use super::{child, given, list, objects, set, text};
use crate::answer::FieldError;
use crate::names;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

pub(super) fn fill(map: &mut Map<String, Value>) {
    let spec = child(map, "spec");
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if spec.get("sessionAffinity").and_then(Value::as_str) == Some("ClientIP") {
        set(child(child(spec, "sessionAffinityConfig"), "clientIP"), "timeoutSeconds", json!(10800));
    }
    for port in objects(spec, "ports") {
        set(port, "protocol", json!("TCP"));
        if matches!(port.get("targetPort"), Some(Value::Number(n)) if n.as_i64() == Some(0)) {
            port.remove("targetPort");
        }
        if let Some(number) = port.get("port").cloned() {
            set(port, "targetPort", number);
        }
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", json!("Cluster"));
        set(spec, "ipFamilyPolicy", json!("SingleStack"));
        set(spec, "ipFamilies", json!(["IPv4"]));
        // One list, one old field: whichever is given fills the other.
        if let Some(ip) = spec.get("clusterIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(str::to_owned) {
            set(spec, "clusterIPs", json!([ip]));
        } else if let Some(ip) = spec.get("clusterIPs").and_then(|l| l.get(0)).cloned() {
            set(spec, "clusterIP", ip);
        }
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
    child(child(map, "status"), "loadBalancer");
}

pub(super) fn faults(object: &Value, out: &mut Vec<FieldError>) {
    let empty = json!({});
    let spec = object.get("spec").unwrap_or(&empty);
    let kind = text(spec, "/type");
    let ports = list(spec, "/ports");
    let headless = text(spec, "/clusterIP") == "None";
    if ports.is_empty() && !headless && kind != "ExternalName" {
        out.push(FieldError::required("spec.ports", ""));
    }
    match kind {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => {
            let name = text(spec, "/externalName");
            if name.is_empty() {
                out.push(FieldError::required("spec.externalName", ""));
            } else if let Some(why) = names::dns_subdomain(name.trim_end_matches('.')) {
                out.push(FieldError::invalid("spec.externalName", &json!(name), &why));
            }
        }
        other => out.push(FieldError::not_supported(
            "spec.type",
            &json!(other),
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        )),
    }
    if matches!(kind, "NodePort" | "LoadBalancer") && headless {
        out.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            &json!("None"),
            "may not be set to 'None' for LoadBalancer services",
        ));
    }
    if !matches!(text(spec, "/sessionAffinity"), "None" | "ClientIP") {
        let value = json!(text(spec, "/sessionAffinity"));
        out.push(FieldError::not_supported("spec.sessionAffinity", &value, &["ClientIP", "None"]));
    }
    for (key, value) in spec.get("selector").and_then(Value::as_object).into_iter().flatten() {
        if let Some(why) = names::qualified_name(key) {
            out.push(FieldError::invalid("spec.selector", &json!(key), &why));
        }
        if let Some(why) = names::label_value(value.as_str().unwrap_or_default()) {
            out.push(FieldError::invalid("spec.selector", value, &why));
        }
    }
    let (mut seen_names, mut seen_ports) = (HashSet::new(), HashSet::new());
    for (i, port) in ports.iter().enumerate() {
        let at = |field: &str| format!("spec.ports[{i}].{field}");
        let name = text(port, "/name");
        if name.is_empty() {
            if ports.len() > 1 {
                out.push(FieldError::required(at("name"), ""));
            }
        } else if let Some(why) = names::dns_label(name) {
            out.push(FieldError::invalid(at("name"), &json!(name), &why));
        } else if !seen_names.insert(name) {
            out.push(FieldError::duplicate(at("name"), &json!(name)));
        }
        let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
        if !(1..=65535).contains(&number) {
            out.push(FieldError::invalid(at("port"), &json!(number), "must be between 1 and 65535, inclusive"));
        }
        let protocol = text(port, "/protocol");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            out.push(FieldError::not_supported(at("protocol"), &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
        match given(port, "targetPort") {
            Some(Value::Number(n)) if !(1..=65535).contains(&n.as_i64().unwrap_or_default()) => {
                out.push(FieldError::invalid(at("targetPort"), &json!(n), "must be between 1 and 65535, inclusive"));
            }
            Some(Value::String(s)) => {
                if let Some(why) = super::pod_faults::port_name(s) {
                    out.push(FieldError::invalid(at("targetPort"), &json!(s), why));
                }
            }
            _ => {}
        }
        if !seen_ports.insert((number, protocol.to_owned())) {
            let value = format!("Duplicate value: {}", json!({"port": number, "protocol": protocol}));
            out.push(FieldError { reason: "FieldValueDuplicate", field: format!("spec.ports[{i}]"), message: value });
        }
    }
}
