//! What each kind does when one of its objects is made or changed: which parts the caller may write, what is filled
//! in, what may never change. Reads no store; addresses of Services are given out elsewhere.

use super::metadata;
use crate::answer::FieldError;
use crate::kinds::Resource;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Prepares a new object: parts that the caller may not write are reset.
pub(crate) fn prepare_create(r: &Resource, object: &mut Value) {
    if !r.builtin {
        if r.status {
            remove(object, "status");
        }
        return;
    }
    match (r.group.as_str(), r.plural.as_str()) {
        ("", "pods") => {
            object["status"] = json!({"phase": "Pending", "qosClass": qos_class(object)});
            if text(object, "/spec/serviceAccountName").is_empty() {
                let name = text(object, "/spec/serviceAccount");
                let name = if name.is_empty() { "default".to_owned() } else { name };
                object["spec"]["serviceAccountName"] = json!(name);
            }
            object["spec"]["serviceAccount"] = object["spec"]["serviceAccountName"].clone();
        }
        ("", "namespaces") => {
            let name = object["metadata"]["name"].clone();
            metadata::of(object).entry("labels").or_insert_with(|| json!({}))["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        ("", "persistentvolumes") => object["status"] = json!({"phase": "Pending"}),
        ("", "persistentvolumeclaims") => object["status"] = json!({"phase": "Pending"}),
        ("", "services") => object["status"] = json!({"loadBalancer": {}}),
        ("", "secrets") => decode_string_data(object),
        ("batch", "jobs") => {
            crate::defaults::batch::select(object);
            object["status"] = json!({});
        }
        ("", "nodes") => {}
        _ if r.status => object["status"] = json!({}),
        _ => {}
    }
}

/// Prepares a changed object: what this request may not write is taken from the object before. `subresource` is empty,
/// `status` or `finalize`.
pub(crate) fn prepare_update(r: &Resource, subresource: &str, object: &mut Value, old: &Value) {
    match subresource {
        "status" => {
            // These kinds let their agents set labels and annotations along with the status, as Kubernetes does.
            let with_metadata = r.is("", "pods") || r.is("", "nodes") || r.is("", "namespaces") || r.is("", "services");
            let fields = object["metadata"].get("managedFields").filter(|_| !with_metadata).cloned();
            put_back(object, old, |key| key == "status" || key == "metadata" && with_metadata);
            if let Some(fields) = fields {
                object["metadata"]["managedFields"] = fields;
            }
        }
        "finalize" => {
            let mut kept = old.clone();
            kept["spec"]["finalizers"] = object["spec"]["finalizers"].clone();
            *object = kept;
        }
        _ => {
            if r.status {
                match old.get("status") {
                    Some(status) if object.get("status") == Some(status) => {}
                    Some(status) => object["status"] = status.clone(),
                    None => remove(object, "status"),
                }
            }
            if r.is("", "namespaces") {
                object["spec"] = old["spec"].clone();
                let name = old["metadata"]["name"].clone();
                metadata::of(object).entry("labels").or_insert_with(|| json!({}))["kubernetes.io/metadata.name"] = name;
            }
            if r.is("", "secrets") {
                decode_string_data(object);
            }
        }
    }
    metadata::keep(object, old);
    if r.generation && content(object, r) != content(old, r) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        metadata::of(object).insert("generation".to_owned(), json!(generation + 1));
    }
}

/// Makes the parts of an object as they were, but for those that may change. Mostly they are, and nothing is copied.
fn put_back(object: &mut Value, old: &Value, may_change: impl Fn(&str) -> bool) {
    let (Some(map), Some(before)) = (object.as_object_mut(), old.as_object()) else { return };
    map.retain(|key, _| may_change(key) || before.contains_key(key));
    for (key, value) in before.iter().filter(|(key, _)| !may_change(key)) {
        if map.get(key) != Some(value) {
            map.insert(key.clone(), value.clone());
        }
    }
}

/// What counts for the generation: all but metadata and, where it is protected, status.
fn content<'a>(object: &'a Value, r: &Resource) -> std::collections::BTreeMap<&'a str, &'a Value> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(key, _)| {
            !(matches!(key.as_str(), "metadata" | "apiVersion" | "kind") || r.status && *key == "status")
        })
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

/// The faults of a change of a built-in kind: what may not change once it is there.
pub(crate) fn validate_change(r: &Resource, object: &Value, old: &Value) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let mut same = |path: &str, detail: &str| {
        let pointer = format!("/{}", path.replace('.', "/"));
        let (new, before) = (object.pointer(&pointer), old.pointer(&pointer));
        if before.is_some() && new != before {
            faults.push(FieldError::invalid(path, new.unwrap_or(&Value::Null), detail));
        }
    };
    if !r.builtin {
        return faults;
    }
    match (r.group.as_str(), r.plural.as_str()) {
        ("", "secrets") => {
            same("type", "field is immutable");
            immutable(object, old, &["data"], &mut faults);
        }
        ("", "configmaps") => immutable(object, old, &["data", "binaryData"], &mut faults),
        ("apps", "deployments" | "replicasets") => {
            let (new, before) = (&object["spec"]["selector"], &old["spec"]["selector"]);
            if new != before {
                let message = format!("Invalid value: {}: field is immutable", go_selector(new));
                let field = "spec.selector".to_owned();
                faults.push(FieldError { reason: "FieldValueInvalid", field, message });
            }
        }
        ("batch", "jobs") => {
            for field in ["selector", "completionMode"] {
                same(&format!("spec.{field}"), "field is immutable");
            }
            if object["spec"]["completionMode"] != "Indexed" {
                same("spec.completions", "field is immutable");
            }
            // A Job that is suspended and never began may get other places for its pods.
            let may = old["spec"]["suspend"] == true && old["status"]["startTime"].is_null();
            if !may {
                same("spec.template", "field is immutable");
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            same("roleRef", "cannot change roleRef");
        }
        ("apiextensions.k8s.io", _) => {
            same("spec.scope", "field is immutable");
            same("spec.group", "field is immutable");
            same("spec.names.plural", "field is immutable");
        }
        ("", "pods") => pod_spec(object, old, &mut faults),
        _ => {}
    }
    faults
}

/// A label selector as Kubernetes' error texts print it.
fn go_selector(selector: &Value) -> String {
    let labels = match selector["matchLabels"].as_object() {
        Some(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
            format!("map[string]string{{{}}}", pairs.join(", "))
        }
        None => "map[string]string(nil)".to_owned(),
    };
    let expressions = match selector["matchExpressions"].as_array() {
        Some(list) => {
            let parts: Vec<String> = list
                .iter()
                .map(|e| {
                    let values = match e["values"].as_array() {
                        Some(values) => {
                            let values: Vec<String> = values.iter().map(Value::to_string).collect();
                            format!("[]string{{{}}}", values.join(", "))
                        }
                        None => "[]string(nil)".to_owned(),
                    };
                    let (key, operator) = (&e["key"], &e["operator"]);
                    format!("v1.LabelSelectorRequirement{{Key:{key}, Operator:{operator}, Values:{values}}}")
                })
                .collect();
            format!("[]v1.LabelSelectorRequirement{{{}}}", parts.join(", "))
        }
        None => "[]v1.LabelSelectorRequirement(nil)".to_owned(),
    };
    format!("v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:{expressions}}}")
}

fn immutable(object: &Value, old: &Value, fields: &[&str], faults: &mut Vec<FieldError>) {
    if old["immutable"] != true {
        return;
    }
    const WHY: &str = "field is immutable when `immutable` is set";
    if object["immutable"] != true {
        faults.push(FieldError::forbidden("immutable", WHY));
    }
    for field in fields {
        if object[field] != old[field] {
            faults.push(FieldError::forbidden(*field, WHY));
        }
    }
}

fn pod_spec(object: &Value, old: &Value, faults: &mut Vec<FieldError>) {
    if object["spec"] == old["spec"] {
        return;
    }
    let mut was = old["spec"].clone();
    let mut now = object["spec"].clone();
    for spec in [&mut was, &mut now] {
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                container["image"] = Value::Null;
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
            spec[field] = Value::Null;
        }
    }
    // On a cluster a binding sets the node; here the agent may take a pod that has none.
    if was["nodeName"].as_str().is_none_or(str::is_empty) {
        was["nodeName"] = Value::Null;
        now["nodeName"] = Value::Null;
    }
    if was != now {
        faults.push(FieldError::forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
             `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
             `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        ));
    }
}

/// `stringData` is written, `data` is kept.
fn decode_string_data(object: &mut Value) {
    let Some(Value::Object(plain)) = object.get("stringData").cloned() else {
        remove(object, "stringData");
        return;
    };
    remove(object, "stringData");
    if !object["data"].is_object() {
        object["data"] = json!({});
    }
    for (key, value) in plain {
        object["data"][key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

/// The quality of service that a pod's requests and limits give it.
fn qos_class(pod: &Value) -> &'static str {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        for name in ["cpu", "memory"] {
            let limit = &container["resources"]["limits"][name];
            let request = &container["resources"]["requests"][name];
            let set = |v: &Value| !v.is_null() && v != "0" && v != &json!(0);
            any |= set(limit) || set(request);
            guaranteed &= set(limit) && (request.is_null() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.remove(key);
    }
}
