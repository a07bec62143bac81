//! The faults of pods and pod templates, with kube-apiserver's words. Pure.

use super::{given, list, text};
use crate::answer::FieldError;
use crate::names;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A pod by itself.
pub(super) fn pod(object: &Value, out: &mut Vec<FieldError>) {
    let empty = json!({});
    faults(object.get("spec").unwrap_or(&empty), "spec", out);
}

/// A pod's spec below a path.
pub(super) fn faults(spec: &Value, at: &str, out: &mut Vec<FieldError>) {
    let volumes = volume_faults(spec, at, out);
    let mut names = HashSet::new();
    if list(spec, "/containers").is_empty() {
        out.push(FieldError::required(format!("{at}.containers"), ""));
    }
    for key in ["containers", "initContainers"] {
        for (i, container) in list(spec, &format!("/{key}")).iter().enumerate() {
            container_faults(container, &format!("{at}.{key}[{i}]"), &volumes, &mut names, out);
        }
    }
    let policy = text(spec, "/restartPolicy");
    if !matches!(policy, "Always" | "OnFailure" | "Never") {
        let supported = ["Always", "Never", "OnFailure"];
        out.push(FieldError::not_supported(format!("{at}.restartPolicy"), &json!(policy), &supported));
    }
    let dns = text(spec, "/dnsPolicy");
    if !matches!(dns, "ClusterFirst" | "ClusterFirstWithHostNet" | "Default" | "None") {
        let supported = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
        out.push(FieldError::not_supported(format!("{at}.dnsPolicy"), &json!(dns), &supported));
    }
    if let Some(deadline) = given(spec, "activeDeadlineSeconds")
        && !deadline.as_i64().is_some_and(|n| (1..=2_147_483_647).contains(&n))
    {
        let why = "must be between 1 and 2147483647, inclusive";
        out.push(FieldError::invalid(format!("{at}.activeDeadlineSeconds"), deadline, why));
    }
    if let Some(grace) = spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).filter(|n| *n < 0) {
        let why = "must be greater than or equal to 0";
        out.push(FieldError::invalid(format!("{at}.terminationGracePeriodSeconds"), &json!(grace), why));
    }
    for (field, check) in [
        ("serviceAccountName", names::dns_subdomain as fn(&str) -> Option<String>),
        ("hostname", names::dns_label),
        ("nodeName", names::dns_subdomain),
    ] {
        let name = text(spec, &format!("/{field}"));
        if let Some(why) = Some(name).filter(|n| !n.is_empty()).and_then(check) {
            out.push(FieldError::invalid(format!("{at}.{field}"), &json!(name), &why));
        }
    }
}

/// Kinds of volumes, as they are counted for "more than one".
fn volume_faults(spec: &Value, at: &str, out: &mut Vec<FieldError>) -> HashSet<String> {
    let mut seen = HashSet::new();
    for (i, volume) in list(spec, "/volumes").iter().enumerate() {
        let at = format!("{at}.volumes[{i}]");
        let name = text(volume, "/name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        } else if let Some(why) = names::dns_label(name) {
            out.push(FieldError::invalid(format!("{at}.name"), &json!(name), &why));
        } else if !seen.insert(name.to_owned()) {
            out.push(FieldError::duplicate(format!("{at}.name"), &json!(name)));
        }
        let sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, v)| *k != "name" && !v.is_null())
            .map(|(k, _)| k)
            .collect();
        for extra in sources.iter().skip(1) {
            out.push(FieldError::forbidden(format!("{at}.{extra}"), "may not specify more than 1 volume type"));
        }
        let required = |source: &str, field: &str, out: &mut Vec<FieldError>| {
            if given(volume, source).is_some_and(|s| text(s, &format!("/{field}")).is_empty()) {
                out.push(FieldError::required(format!("{at}.{source}.{field}"), ""));
            }
        };
        required("secret", "secretName", out);
        required("configMap", "name", out);
        required("hostPath", "path", out);
        required("persistentVolumeClaim", "claimName", out);
        for source in ["secret", "configMap"] {
            for (j, item) in list(volume, &format!("/{source}/items")).iter().enumerate() {
                for field in ["key", "path"] {
                    if text(item, &format!("/{field}")).is_empty() {
                        out.push(FieldError::required(format!("{at}.{source}.items[{j}].{field}"), ""));
                    }
                }
            }
        }
    }
    seen
}

fn container_faults(
    container: &Value,
    at: &str,
    volumes: &HashSet<String>,
    names: &mut HashSet<String>,
    out: &mut Vec<FieldError>,
) {
    let name = text(container, "/name");
    if name.is_empty() {
        out.push(FieldError::required(format!("{at}.name"), ""));
    } else if let Some(why) = names::dns_label(name) {
        out.push(FieldError::invalid(format!("{at}.name"), &json!(name), &why));
    } else if !names.insert(name.to_owned()) {
        out.push(FieldError::duplicate(format!("{at}.name"), &json!(name)));
    }
    let image = text(container, "/image");
    if image.is_empty() {
        out.push(FieldError::required(format!("{at}.image"), ""));
    } else if image != image.trim() {
        out.push(FieldError::invalid(
            format!("{at}.image"),
            &json!(image),
            "must not have leading or trailing whitespace",
        ));
    }
    port_faults(container, at, out);
    env_faults(container, at, out);
    mount_faults(container, at, volumes, out);
    resource_faults(container, at, out);
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = given(container, key) {
            probe_faults(probe, &format!("{at}.{key}"), key != "readinessProbe", out);
        }
    }
    let pull = text(container, "/imagePullPolicy");
    if !matches!(pull, "Always" | "IfNotPresent" | "Never") {
        let supported = ["Always", "IfNotPresent", "Never"];
        out.push(FieldError::not_supported(format!("{at}.imagePullPolicy"), &json!(pull), &supported));
    }
    let message = text(container, "/terminationMessagePolicy");
    if !matches!(message, "File" | "FallbackToLogsOnError") {
        let supported = ["FallbackToLogsOnError", "File"];
        out.push(FieldError::not_supported(format!("{at}.terminationMessagePolicy"), &json!(message), &supported));
    }
}

/// What is wrong with a port's name, if anything.
pub(super) fn port_name(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        return Some("must be no more than 15 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens");
    }
    (name.starts_with('-') || name.ends_with('-')).then_some("must not begin or end with a hyphen")
}

fn port_faults(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let mut seen = HashSet::new();
    for (i, port) in list(container, "/ports").iter().enumerate() {
        let at = format!("{at}.ports[{i}]");
        let name = text(port, "/name");
        if !name.is_empty() {
            if let Some(why) = port_name(name) {
                out.push(FieldError::invalid(format!("{at}.name"), &json!(name), why));
            } else if !seen.insert(name) {
                out.push(FieldError::duplicate(format!("{at}.name"), &json!(name)));
            }
        }
        match port.get("containerPort").and_then(Value::as_i64).unwrap_or_default() {
            0 => out.push(FieldError::required(format!("{at}.containerPort"), "")),
            n if !(1..=65535).contains(&n) => {
                let why = "must be between 1 and 65535, inclusive";
                out.push(FieldError::invalid(format!("{at}.containerPort"), &json!(n), why));
            }
            _ => {}
        }
        let protocol = text(port, "/protocol");
        if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            out.push(FieldError::not_supported(format!("{at}.protocol"), &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
    }
}

fn env_faults(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    for (i, env) in list(container, "/env").iter().enumerate() {
        let at = format!("{at}.env[{i}]");
        let name = text(env, "/name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        } else if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
            let why =
                "a valid environment variable name must consist only of printable ASCII characters other than '='";
            out.push(FieldError::invalid(format!("{at}.name"), &json!(name), why));
        }
        let Some(from) = given(env, "valueFrom") else { continue };
        let sources: Vec<&String> =
            from.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
        let at = format!("{at}.valueFrom");
        if sources.is_empty() {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            out.push(FieldError::invalid(at, &json!(""), why));
        } else if !text(env, "/value").is_empty() {
            out.push(FieldError::invalid(at, &json!(""), "may not be specified when `value` is not empty"));
        } else if sources.len() > 1 {
            out.push(FieldError::invalid(at, &json!(""), "may not have more than one field specified at a time"));
        } else if matches!(sources[0].as_str(), "configMapKeyRef" | "secretKeyRef")
            && text(from, &format!("/{}/key", sources[0])).is_empty()
        {
            out.push(FieldError::required(format!("{at}.{}.key", sources[0]), ""));
        }
    }
}

fn mount_faults(container: &Value, at: &str, volumes: &HashSet<String>, out: &mut Vec<FieldError>) {
    let mut paths = HashSet::new();
    for (i, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let at = format!("{at}.volumeMounts[{i}]");
        let (name, path) = (text(mount, "/name"), text(mount, "/mountPath"));
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        } else if !volumes.contains(name) {
            let message = format!("Not found: {name:?}");
            out.push(FieldError { reason: "FieldValueNotFound", field: format!("{at}.name"), message });
        }
        if path.is_empty() {
            out.push(FieldError::required(format!("{at}.mountPath"), ""));
        } else if !paths.insert(path) {
            out.push(FieldError::invalid(format!("{at}.mountPath"), &json!(path), "must be unique"));
        }
        let sub = text(mount, "/subPath");
        if sub.starts_with('/') {
            out.push(FieldError::invalid(format!("{at}.subPath"), &json!(sub), "must be a relative path"));
        } else if sub.split('/').any(|part| part == "..") {
            out.push(FieldError::invalid(format!("{at}.subPath"), &json!(sub), "must not contain '..'"));
        }
    }
}

/// A quantity as a number, good enough to compare two of them.
fn quantity(value: &Value) -> Option<f64> {
    let text = match value {
        Value::Number(n) => return n.as_f64(),
        Value::String(s) => s.as_str(),
        _ => return None,
    };
    let digits = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        "Gi" => 1024.0_f64.powi(3),
        "Ti" => 1024.0_f64.powi(4),
        "Pi" => 1024.0_f64.powi(5),
        "Ei" => 1024.0_f64.powi(6),
        exponent => 10_f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(number * factor)
}

fn resource_faults(container: &Value, at: &str, out: &mut Vec<FieldError>) {
    let amounts = |kind: &str| container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
    for kind in ["limits", "requests"] {
        for (name, amount) in amounts(kind).into_iter().flatten() {
            let field = format!("{at}.resources.{kind}[{name}]");
            match quantity(amount) {
                None => out.push(FieldError::invalid(
                    field,
                    amount,
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
                )),
                Some(n) if n < 0.0 => {
                    out.push(FieldError::invalid(field, amount, "must be greater than or equal to 0"));
                }
                Some(_) => {}
            }
        }
    }
    for (name, request) in amounts("requests").into_iter().flatten() {
        let limit = amounts("limits").and_then(|l| l.get(name));
        if let Some(limit) = limit
            && let (Some(r), Some(l)) = (quantity(request), quantity(limit))
            && r > l
        {
            let shown = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            let why = format!("must be less than or equal to {name} limit of {shown}");
            out.push(FieldError::invalid(format!("{at}.resources.requests"), request, &why));
        }
    }
}

fn probe_faults(probe: &Value, at: &str, success_is_one: bool, out: &mut Vec<FieldError>) {
    let handlers: Vec<&str> =
        ["exec", "httpGet", "tcpSocket", "grpc"].into_iter().filter(|k| given(probe, k).is_some()).collect();
    if handlers.is_empty() {
        out.push(FieldError::required(at, "must specify a handler type"));
    }
    for extra in handlers.iter().skip(1) {
        out.push(FieldError::forbidden(format!("{at}.{extra}"), "may not specify more than 1 handler type"));
    }
    for handler in handlers.iter().filter(|h| **h != "exec") {
        match probe.get(*handler).and_then(|h| given(h, "port")) {
            Some(Value::String(s)) => {
                if let Some(why) = port_name(s) {
                    out.push(FieldError::invalid(format!("{at}.{handler}.port"), &json!(s), why));
                }
            }
            port => {
                let number = port.and_then(Value::as_i64).unwrap_or_default();
                if !(1..=65535).contains(&number) {
                    let why = "must be between 1 and 65535, inclusive";
                    out.push(FieldError::invalid(format!("{at}.{handler}.port"), &json!(number), why));
                }
            }
        }
    }
    if given(probe, "exec").is_some() && list(probe, "/exec/command").is_empty() {
        out.push(FieldError::required(format!("{at}.exec.command"), ""));
    }
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        if let Some(n) = probe.get(field).and_then(Value::as_i64).filter(|n| *n < 0) {
            out.push(FieldError::invalid(format!("{at}.{field}"), &json!(n), "must be greater than or equal to 0"));
        }
    }
    let success = probe.get("successThreshold").and_then(Value::as_i64).unwrap_or(1);
    if success_is_one && success != 1 {
        out.push(FieldError::invalid(format!("{at}.successThreshold"), &json!(success), "must be 1"));
    }
}
