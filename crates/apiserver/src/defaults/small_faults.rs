//! The faults of the small kinds: ConfigMaps, Secrets, roles, bindings, claims, leases, events, endpoint slices. Pure.

use super::{list, text};
use crate::answer::FieldError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const BYTES_MAX: usize = 1 << 20;

fn key_faults(object: &Value, field: &str, out: &mut Vec<FieldError>) -> usize {
    let mut size = 0;
    for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
        size += value.as_str().map_or(0, str::len);
        let at = format!("{field}[{key}]");
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if key.len() > 253 {
            out.push(FieldError::invalid(at, &json!(key), "must be no more than 253 characters"));
        } else if key.is_empty() || !key.bytes().all(good) {
            let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
            out.push(FieldError::invalid(at, &json!(key), why));
        } else if key == "." || key == ".." {
            out.push(FieldError::invalid(at, &json!(key), &format!("must not be '{key}'")));
        } else if key.starts_with("..") {
            out.push(FieldError::invalid(at, &json!(key), "must not start with '..'"));
        }
    }
    size
}

fn too_long(field: &str, out: &mut Vec<FieldError>) {
    let message = format!("Too long: may not be more than {BYTES_MAX} bytes");
    out.push(FieldError { reason: "FieldValueTooLong", field: field.to_owned(), message });
}

pub(super) fn config_map(object: &Value, out: &mut Vec<FieldError>) {
    let size = key_faults(object, "data", out) + key_faults(object, "binaryData", out);
    if size > BYTES_MAX {
        too_long("", out);
    }
    let binary = object.get("binaryData").and_then(Value::as_object);
    for key in binary.into_iter().flatten().map(|(k, _)| k) {
        if object.get("data").and_then(|d| d.get(key)).is_some() {
            let why = "duplicate of key present in binaryData";
            out.push(FieldError::invalid(format!("data[{key}]"), &json!(key), why));
        }
    }
}

pub(super) fn secret(object: &Value, out: &mut Vec<FieldError>) {
    // Encoded sizes: a third more than what counts.
    if key_faults(object, "data", out) / 4 * 3 > BYTES_MAX {
        too_long("data", out);
    }
    let data = |key: &str| object.get("data").and_then(|d| d.get(key)).and_then(Value::as_str);
    let mut need = |key: &str| {
        if data(key).is_none() {
            out.push(FieldError::required(format!("data[{key}]"), ""));
        }
    };
    match text(object, "/type") {
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        kind @ ("kubernetes.io/dockerconfigjson" | "kubernetes.io/dockercfg") => {
            let key = if kind.ends_with("json") { ".dockerconfigjson" } else { ".dockercfg" };
            need(key);
            let decoded = data(key).and_then(|d| STANDARD.decode(d).ok());
            if decoded.is_some_and(|d| serde_json::from_slice::<Value>(&d).is_err()) {
                let why = "Invalid value: \"<secret contents redacted>\": it is not a JSON object".to_owned();
                out.push(FieldError { reason: "FieldValueInvalid", field: format!("data[{key}]"), message: why });
            }
        }
        "kubernetes.io/basic-auth" if data("username").is_none() && data("password").is_none() => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" => need("ssh-privatekey"),
        "kubernetes.io/service-account-token"
            if text(object, "/metadata/annotations/kubernetes.io~1service-account.name").is_empty() =>
        {
            out.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
        _ => {}
    }
}

pub(super) fn event(object: &Value, out: &mut Vec<FieldError>) {
    let namespace = text(object, "/metadata/namespace");
    let about = ["/involvedObject/namespace", "/regarding/namespace"].map(|p| text(object, p)).concat();
    // Events about what has no namespace live in `default`.
    let wanted = if about.is_empty() { "default" } else { about.as_str() };
    if namespace != wanted && !(about.is_empty() && namespace == "kube-system") {
        let why = "does not match event.namespace";
        out.push(FieldError::invalid("involvedObject.namespace", &json!(about), why));
    }
}

pub(super) fn claim(object: &Value, out: &mut Vec<FieldError>) {
    let modes = list(object, "/spec/accessModes");
    if modes.is_empty() {
        out.push(FieldError::required("spec.accessModes", "at least 1 access mode is required"));
    }
    let known = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    for mode in modes.iter().filter(|m| !known.contains(&m.as_str().unwrap_or_default())) {
        out.push(FieldError::not_supported("spec.accessModes", mode, &known));
    }
    if object.pointer("/spec/resources/requests/storage").is_none_or(Value::is_null) {
        out.push(FieldError::required("spec.resources[storage]", ""));
    }
}

/// Fields of a volume's spec that are no source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn volume(object: &Value, out: &mut Vec<FieldError>) {
    if list(object, "/spec/accessModes").is_empty() {
        out.push(FieldError::required("spec.accessModes", ""));
    }
    if object.pointer("/spec/capacity/storage").is_none_or(Value::is_null) {
        out.push(FieldError::required("spec.capacity", ""));
    }
    let fields = object.pointer("/spec").and_then(Value::as_object).into_iter().flatten();
    if fields.filter(|(key, value)| !NO_SOURCE.contains(&key.as_str()) && !value.is_null()).count() == 0 {
        out.push(FieldError::required("spec", "must specify a volume type"));
    }
}

pub(super) fn storage_class(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    if text(object, "/provisioner").is_empty() {
        out.push(FieldError::required("provisioner", ""));
    }
    let modes = ["Immediate", "WaitForFirstConsumer"];
    if !modes.contains(&text(object, "/volumeBindingMode")) {
        out.push(FieldError::not_supported("volumeBindingMode", &object["volumeBindingMode"], &modes));
    }
    for field in ["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"] {
        if old.is_some_and(|old| old.get(field) != object.get(field)) {
            out.push(FieldError::forbidden(field, &format!("updates to {field} are forbidden.")));
        }
    }
}

pub(super) fn lease(object: &Value, out: &mut Vec<FieldError>) {
    let number = |field: &str| object.pointer(&format!("/spec/{field}")).and_then(Value::as_i64);
    if let Some(n) = number("leaseDurationSeconds").filter(|n| *n <= 0) {
        out.push(FieldError::invalid("spec.leaseDurationSeconds", &json!(n), "must be greater than 0"));
    }
    if let Some(n) = number("leaseTransitions").filter(|n| *n < 0) {
        let why = "must be greater than or equal to 0";
        out.push(FieldError::invalid("spec.leaseTransitions", &json!(n), why));
    }
}

pub(super) fn endpoint_slice(object: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    let kinds = ["FQDN", "IPv4", "IPv6"];
    match text(object, "/addressType") {
        "" => out.push(FieldError::required("addressType", "")),
        kind if !kinds.contains(&kind) => out.push(FieldError::not_supported("addressType", &json!(kind), &kinds)),
        kind => {
            if old.is_some_and(|o| text(o, "/addressType") != kind) {
                out.push(FieldError::invalid("addressType", &json!(kind), "field is immutable"));
            }
        }
    }
    for (i, endpoint) in list(object, "/endpoints").iter().enumerate() {
        if list(endpoint, "/addresses").is_empty() {
            let why = "must contain at least 1 address";
            out.push(FieldError::required(format!("endpoints[{i}].addresses"), why));
        }
    }
}

/// Go's `[]string{"a", "b"}`.
fn go_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(Value::to_string).collect();
    format!("[]string{{{}}}", items.join(", "))
}

pub(super) fn role(object: &Value, namespaced: bool, out: &mut Vec<FieldError>) {
    for (i, rule) in list(object, "/rules").iter().enumerate() {
        let at = |field: &str| format!("rules[{i}].{field}");
        let (verbs, groups, resources, urls) =
            (list(rule, "/verbs"), list(rule, "/apiGroups"), list(rule, "/resources"), list(rule, "/nonResourceURLs"));
        if verbs.is_empty() {
            out.push(FieldError::required(at("verbs"), "verbs must contain at least one value"));
        }
        if !urls.is_empty() {
            let mut refuse = |why: &str| {
                let message = format!("Invalid value: {}: {why}", go_list(urls));
                out.push(FieldError { reason: "FieldValueInvalid", field: at("nonResourceURLs"), message });
            };
            if namespaced {
                refuse("namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !list(rule, "/resourceNames").is_empty() {
                refuse("rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            out.push(FieldError::required(at("apiGroups"), "resource rules must supply at least one api group"));
        }
        if resources.is_empty() {
            out.push(FieldError::required(at("resources"), "resource rules must supply at least one resource"));
        }
    }
}

pub(super) fn binding(object: &Value, namespaced: bool, out: &mut Vec<FieldError>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    let group = text(object, "/roleRef/apiGroup");
    if group != GROUP {
        out.push(FieldError::not_supported("roleRef.apiGroup", &json!(group), &[GROUP]));
    }
    let kind = text(object, "/roleRef/kind");
    if !kinds.contains(&kind) {
        out.push(FieldError::not_supported("roleRef.kind", &json!(kind), kinds));
    }
    if text(object, "/roleRef/name").is_empty() {
        out.push(FieldError::required("roleRef.name", ""));
    }
    for (i, subject) in list(object, "/subjects").iter().enumerate() {
        let at = |field: &str| format!("subjects[{i}].{field}");
        if text(subject, "/name").is_empty() {
            out.push(FieldError::required(at("name"), ""));
        }
        let group = text(subject, "/apiGroup");
        match text(subject, "/kind") {
            "ServiceAccount" => {
                if !group.is_empty() {
                    out.push(FieldError::not_supported(at("apiGroup"), &json!(group), &[""]));
                }
                if !namespaced && text(subject, "/namespace").is_empty() {
                    out.push(FieldError::required(at("namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    out.push(FieldError::not_supported(at("apiGroup"), &json!(group), &[GROUP]));
                }
            }
            other => {
                let known = ["ServiceAccount", "User", "Group"];
                out.push(FieldError::not_supported(at("kind"), &json!(other), &known));
            }
        }
    }
}
