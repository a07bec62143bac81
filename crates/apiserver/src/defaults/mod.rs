//! What the built-in kinds get without being told, and what is wrong with them: defaulting and validation as
//! kube-apiserver does them, on plain JSON. Pure: an object in, the same object filled in, or its faults. Never reads
//! the store; what needs one (cluster IPs, ServiceAccounts) is decided elsewhere.

pub(crate) mod batch;
mod image;
mod pod_faults;
mod pod_spec;
mod service;
mod small_faults;
mod workload_faults;

use crate::answer::FieldError;
use crate::kinds::Resource;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Fills in the defaults of a built-in kind.
pub fn fill(r: &Resource, object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    match (r.group.as_str(), r.plural.as_str()) {
        ("", "pods") => pod_spec::fill_pod(map),
        ("", "services") => service::fill(map),
        ("", "secrets") => fill_secret(map),
        ("", "namespaces") => fill_namespace(map),
        ("", "persistentvolumeclaims") => {
            set(child(map, "spec"), "volumeMode", json!("Filesystem"));
            set(child(map, "status"), "phase", json!("Pending"));
        }
        ("", "persistentvolumes") => {
            let spec = child(map, "spec");
            set(spec, "persistentVolumeReclaimPolicy", json!("Retain"));
            set(spec, "volumeMode", json!("Filesystem"));
            if let Some(path) = spec.get_mut("hostPath").and_then(Value::as_object_mut) {
                set(path, "type", json!(""));
            }
            set(child(map, "status"), "phase", json!("Pending"));
        }
        ("storage.k8s.io", "storageclasses") => {
            set(map, "reclaimPolicy", json!("Delete"));
            set(map, "volumeBindingMode", json!("Immediate"));
        }
        ("", "endpoints") => {
            for subset in objects(map, "subsets") {
                for port in objects(subset, "ports") {
                    set(port, "protocol", json!("TCP"));
                }
            }
        }
        ("discovery.k8s.io", "endpointslices") => {
            for port in objects(map, "ports") {
                set(port, "name", json!(""));
                set(port, "protocol", json!("TCP"));
            }
        }
        ("apps", "deployments") => fill_deployment(map),
        ("apps", "replicasets") => {
            let spec = child(map, "spec");
            set(spec, "replicas", json!(1));
            pod_spec::fill_template(child(spec, "template"));
            set(child(map, "status"), "replicas", json!(0));
        }
        ("batch", "jobs") => batch::fill_job(map),
        ("batch", "cronjobs") => batch::fill_cron_job(map),
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => fill_binding(map),
        _ => {}
    }
}

/// The faults of a built-in kind, beyond its metadata and beyond what may not change; `old` is absent on creation.
#[must_use]
pub fn faults(r: &Resource, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    match (r.group.as_str(), r.plural.as_str()) {
        // A spec that was stored had none.
        ("", "pods") if old.is_some_and(|old| old.get("spec") == object.get("spec")) => {}
        ("", "pods") => pod_faults::pod(object, &mut out),
        ("", "services") => service::faults(object, &mut out),
        ("", "configmaps") => small_faults::config_map(object, &mut out),
        ("", "secrets") => small_faults::secret(object, &mut out),
        ("", "events") => small_faults::event(object, &mut out),
        ("", "persistentvolumeclaims") => small_faults::claim(object, &mut out),
        ("", "persistentvolumes") => small_faults::volume(object, &mut out),
        ("storage.k8s.io", "storageclasses") => small_faults::storage_class(object, old, &mut out),
        ("apps", "deployments") => workload_faults::deployment(object, &mut out),
        ("apps", "replicasets") => workload_faults::replica_set(object, &mut out),
        ("batch", "jobs") => batch::job(object, &mut out),
        ("batch", "cronjobs") => batch::cron_job(object, &mut out),
        ("coordination.k8s.io", "leases") => small_faults::lease(object, &mut out),
        ("discovery.k8s.io", "endpointslices") => small_faults::endpoint_slice(object, old, &mut out),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            small_faults::role(object, r.namespaced, &mut out);
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            small_faults::binding(object, r.namespaced, &mut out);
        }
        _ => {}
    }
    out
}

fn fill_secret(map: &mut Map<String, Value>) {
    set(map, "type", json!("Opaque"));
    if let Some(Value::Object(plain)) = map.remove("stringData") {
        let data = child(map, "data");
        for (key, value) in plain {
            data.insert(key, json!(STANDARD.encode(value.as_str().unwrap_or_default())));
        }
    }
}

fn fill_namespace(map: &mut Map<String, Value>) {
    let metadata = child(map, "metadata");
    if let Some(name) = metadata.get("name").and_then(Value::as_str).map(str::to_owned) {
        set(child(metadata, "labels"), "kubernetes.io/metadata.name", json!(name));
    }
    set(child(map, "spec"), "finalizers", json!(["kubernetes"]));
    set(child(map, "status"), "phase", json!("Active"));
}

fn fill_deployment(map: &mut Map<String, Value>) {
    let spec = child(map, "spec");
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
    let strategy = child(spec, "strategy");
    set(strategy, "type", json!("RollingUpdate"));
    if strategy.get("type").and_then(Value::as_str) == Some("RollingUpdate") {
        let rolling = child(strategy, "rollingUpdate");
        set(rolling, "maxUnavailable", json!("25%"));
        set(rolling, "maxSurge", json!("25%"));
    }
    pod_spec::fill_template(child(spec, "template"));
    child(map, "status");
}

fn fill_binding(map: &mut Map<String, Value>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    set(child(map, "roleRef"), "apiGroup", json!(GROUP));
    for subject in objects(map, "subjects") {
        if matches!(subject.get("kind").and_then(Value::as_str), Some("User" | "Group")) {
            set(subject, "apiGroup", json!(GROUP));
        }
    }
}

/// Sets a field that is absent, null, or Go's empty string.
fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    let absent = match map.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        _ => false,
    };
    if absent {
        map.insert(key.to_owned(), value);
    }
}

/// The object at a key, made if it is absent or null. Something else there is a fault that validation tells; it is left
/// alone, and what is set on the stand-in is lost.
fn child<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = map.entry(key).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut().expect("invariant: made an object on the line above")
}

/// The object at a key if there is one.
fn existing<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

/// The objects of a list at a key.
fn objects<'a>(map: &'a mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn text<'a>(v: &'a Value, pointer: &str) -> &'a str {
    v.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(v: &'a Value, pointer: &str) -> &'a [Value] {
    v.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Present and not null.
fn given<'a>(v: &'a Value, key: &str) -> Option<&'a Value> {
    v.get(key).filter(|v| !v.is_null())
}
