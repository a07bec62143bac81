//! Defaults of pods and of pod templates. Pure.

use super::{child, existing, image, objects, set};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// A pod by itself: its spec, and what only pods get.
pub(super) fn fill_pod(pod: &mut Object) {
    let spec = child(pod, "spec");
    fill(spec);
    set(spec, "enableServiceLinks", json!(true));
    set(spec, "serviceAccountName", json!("default"));
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        spec.insert("serviceAccount".to_owned(), account);
    }
    for key in ["containers", "initContainers"] {
        for container in objects(spec, key) {
            requests_from_limits(container);
        }
    }
    let class = quality(spec);
    let status = child(pod, "status");
    set(status, "phase", json!("Pending"));
    set(status, "qosClass", json!(class));
}

/// What is limited is requested, unless told.
fn requests_from_limits(container: &mut Object) {
    let Some(resources) = existing(container, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    let requests = child(resources, "requests");
    for (name, amount) in limits {
        set(requests, &name, amount);
    }
}

/// The quality of service class.
fn quality(spec: &mut Object) -> &'static str {
    let (mut any, mut all) = (false, true);
    for key in ["containers", "initContainers"] {
        for container in objects(spec, key) {
            let amounts = |kind: &str, name: &str| {
                container.get("resources").and_then(|r| r.get(kind)).and_then(|m| m.get(name)).filter(|v| !v.is_null())
            };
            for name in ["cpu", "memory"] {
                let (limit, request) = (amounts("limits", name), amounts("requests", name));
                any |= limit.is_some() || request.is_some();
                all &= limit.is_some() && (request.is_none() || request == limit);
            }
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// A template of a workload.
pub(super) fn fill_template(template: &mut Object) {
    let metadata = child(template, "metadata");
    metadata.entry("creationTimestamp").or_insert(Value::Null);
    fill(child(template, "spec"));
}

fn fill(spec: &mut Object) {
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "schedulerName", json!("default-scheduler"));
    child(spec, "securityContext");
    let account = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).cloned();
    if let Some(account) = account.filter(|a| a.as_str().is_some_and(|a| !a.is_empty())) {
        spec.insert("serviceAccountName".to_owned(), account.clone());
        spec.insert("serviceAccount".to_owned(), account);
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool) == Some(true);
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for container in objects(spec, key) {
            fill_container(container, host_network);
        }
    }
    for volume in objects(spec, "volumes") {
        fill_volume(volume);
    }
}

fn fill_container(container: &mut Object, host_network: bool) {
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    let latest = image::means_latest(container.get("image").and_then(Value::as_str).unwrap_or_default());
    set(container, "imagePullPolicy", json!(if latest { "Always" } else { "IfNotPresent" }));
    child(container, "resources");
    for port in objects(container, "ports") {
        set(port, "protocol", json!("TCP"));
        if let Some(number) = port.get("containerPort").filter(|_| host_network).cloned() {
            set(port, "hostPort", number);
        }
    }
    for env in objects(container, "env") {
        if let Some(field) = existing(env, "valueFrom").and_then(|from| existing(from, "fieldRef")) {
            set(field, "apiVersion", json!("v1"));
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = existing(container, key) else { continue };
        // Zero is Go's "not set" here.
        for (field, value) in
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
        {
            if probe.get(field).and_then(Value::as_i64) == Some(0) {
                probe.remove(field);
            }
            set(probe, field, json!(value));
        }
        fill_http(probe);
        if let Some(grpc) = existing(probe, "grpc") {
            grpc.entry("service").or_insert(json!(""));
        }
    }
    if let Some(lifecycle) = existing(container, "lifecycle") {
        for key in ["postStart", "preStop"] {
            if let Some(handler) = existing(lifecycle, key) {
                fill_http(handler);
            }
        }
    }
}

fn fill_http(handler: &mut Object) {
    if let Some(http) = existing(handler, "httpGet") {
        set(http, "path", json!("/"));
        set(http, "scheme", json!("HTTP"));
    }
}

fn fill_volume(volume: &mut Object) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        let Some(source) = existing(volume, key) else { continue };
        set(source, "defaultMode", json!(420));
        fill_downward(source);
        for projection in objects(source, "sources") {
            if let Some(token) = existing(projection, "serviceAccountToken") {
                set(token, "expirationSeconds", json!(3600));
            }
            if let Some(downward) = existing(projection, "downwardAPI") {
                fill_downward(downward);
            }
        }
    }
    if let Some(host) = existing(volume, "hostPath") {
        host.entry("type").or_insert(json!(""));
    }
}

fn fill_downward(source: &mut Object) {
    for item in objects(source, "items") {
        if let Some(field) = existing(item, "fieldRef") {
            set(field, "apiVersion", json!("v1"));
        }
    }
}
