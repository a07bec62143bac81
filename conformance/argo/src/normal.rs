//! The normal form: what both sides look like before they are compared. Each rule leaves out or evens out one thing in
//! which two runs of Argo differ, or which is the executor's business and not the manifest's; nothing else may be changed
//! here.
//!
//! | rule | of | why |
//! |---|---|---|
//! | times, durations, progress, host names, addresses are left out | nodes | they differ from run to run |
//! | the workflow's uid and its time of creation become words | all texts | the API server gives them |
//! | children and outbound nodes are sets | nodes | their order follows from what began first |
//! | of parameters: name and value; of artifacts: name and path | inputs, outputs | where bytes are kept is the executor's |
//! | an empty text, list or map is not there | everything | Go leaves some out and writes others |
//! | `wait`, `init` and what the executor mounts or sets are left out; the command is what it wraps | pods | tier C asks
//!   for the user's part |
//! | `span-id`, `trace-id`, `pod-gc-strategy` and our own annotations are left out | pods | notes of a controller to itself |
//! | the entrypoint that Argo read from an image is left out | pods | our executor leaves it to who runs the image |
//! | a container of the executor itself is `@executor` without its words | pods | it is another program |
//! | what the API server adds to a pod is left out | pods | it is not the controller's |

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// What a workflow is called by the API server, to be evened out.
#[derive(Clone, Debug)]
pub struct Given {
    uid: String,
    created: String,
}

impl Given {
    /// Of a workflow.
    #[must_use]
    pub fn of(workflow: &Value) -> Self {
        let text = |key: &str| workflow["metadata"][key].as_str().unwrap_or("-").to_owned();
        Self { uid: text("uid"), created: text("creationTimestamp") }
    }

    fn even(&self, text: &str) -> String {
        let mut text = text.replace(&self.uid, "@uid").replace(&self.created, "@created");
        // Go's own way of writing a time: `2026-11-20 23:18:26 +0000 UTC`.
        let go = self.created.replace('T', " ").replace('Z', " +0000 UTC");
        text = text.replace(&go, "@created");
        text
    }
}

/// The fields of a node that are compared.
pub const NODE_FIELDS: [&str; 16] = [
    "name",
    "id",
    "type",
    "phase",
    "displayName",
    "templateName",
    "templateRef",
    "templateScope",
    "boundaryID",
    "message",
    "nodeFlag",
    "daemoned",
    "children",
    "outboundNodes",
    "inputs",
    "outputs",
];

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Evens out every text, and takes out what is nothing.
fn even(value: &Value, given: &Given) -> Value {
    match value {
        Value::String(text) => Value::String(given.even(text)),
        Value::Array(list) => list.iter().map(|v| even(v, given)).collect(),
        Value::Object(map) => {
            let pairs = map.iter().map(|(k, v)| (k.clone(), even(v, given)));
            Value::Object(pairs.filter(|(_, v)| !is_nothing(v)).collect())
        }
        other => other.clone(),
    }
}

/// A node: field by field, what is nothing left out.
#[must_use]
pub fn node(row: &Value, given: &Given) -> Map<String, Value> {
    let mut out = Map::new();
    for field in NODE_FIELDS {
        let value = match field {
            "children" | "outboundNodes" => {
                let ids: BTreeSet<&str> =
                    row[field].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                json!(ids)
            }
            "inputs" | "outputs" => values(&row[field], given),
            _ => even(&row[field], given),
        };
        if !is_nothing(&value) {
            out.insert(field.to_owned(), value);
        }
    }
    out
}

/// Inputs or outputs.
#[must_use]
pub fn values(of: &Value, given: &Given) -> Value {
    let mut out = Map::new();
    let list = |key: &str, field: &str| {
        let mut all = Map::new();
        for item in of[key].as_array().into_iter().flatten() {
            let name = item["name"].as_str().unwrap_or_default().to_owned();
            let value = match &item[field] {
                Value::Null => Value::Null,
                Value::String(text) => json!(given.even(text)),
                other => json!(given.even(&other.to_string())),
            };
            all.insert(name, value);
        }
        Value::Object(all)
    };
    out.insert("parameters".to_owned(), list("parameters", "value"));
    out.insert("artifacts".to_owned(), list("artifacts", "path"));
    for key in ["result", "exitCode"] {
        out.insert(key.to_owned(), even(&of[key], given));
    }
    out.retain(|_, v| !is_nothing(v));
    Value::Object(out)
}

/// Prefixes of the executor's volumes and mounts.
const EXECUTORS: [&str; 8] = [
    "var-run-argo",
    "tmp-dir-argo",
    "argo-staging",
    "input-artifacts",
    "kube-api-access-",
    "exec-sa-token",
    "argo-env-config",
    "windlass-",
];

/// Where Argo's executor finds the secrets of artifact repositories.
const SECRETS: &str = "/argo/secret/";

/// Entrypoints of images, which Argo looks up and writes into the pod.
const ENTRYPOINTS: [(&str, &[&str]); 2] =
    [("argoproj/argosay:v2", &["/argosay"]), ("nginx:1.13", &["httpd", "-f", "-p", "80", "-h", "/www"])];

fn is_executors(name: &str) -> bool {
    EXECUTORS.iter().any(|prefix| name.starts_with(prefix))
}

fn named(of: &Value, key: &str) -> impl Iterator<Item = Value> {
    let all = of[key].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|v| !v["name"].as_str().is_some_and(is_executors))
}

/// A pod: `phase` and `containers` and what else the manifest says, by field.
#[must_use]
pub fn pod(pod: &Value, given: &Given) -> Map<String, Value> {
    let mut out = Map::new();
    let meta = &pod["metadata"];
    let foreign = |key: &str| {
        let mine = ["span-id", "trace-id", "completed", "pod-gc-strategy"].iter().any(|k| key.ends_with(k));
        mine || key.starts_with("windlass.dev/")
    };
    for key in ["labels", "annotations"] {
        let mut map = meta[key].as_object().cloned().unwrap_or_default();
        map.retain(|key, _| !foreign(key));
        out.insert(key.to_owned(), even(&Value::Object(map), given));
    }
    let spec = &pod["spec"];
    for key in ["nodeSelector", "priorityClassName", "hostAliases", "affinity", "hostNetwork", "dnsConfig"] {
        out.insert(key.to_owned(), even(&spec[key], given));
    }
    out.insert("restartPolicy".to_owned(), json!(spec["restartPolicy"].as_str().unwrap_or("Never")));
    let account = spec["serviceAccountName"].as_str().filter(|name| *name != "default");
    out.insert("serviceAccountName".to_owned(), json!(account));
    let tolerations: Vec<Value> = spec["tolerations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|t| !t["key"].as_str().is_some_and(|k| k.starts_with("node.kubernetes.io/")))
        .map(|t| even(t, given))
        .collect();
    out.insert("tolerations".to_owned(), json!(tolerations));
    // Secrets of artifact repositories are mounted for the executor.
    let secret = |m: &Value| m["mountPath"].as_str().is_some_and(|path| path.starts_with(SECRETS));
    let parts = ["containers", "initContainers"].into_iter().flat_map(|key| spec[key].as_array().into_iter().flatten());
    let of_secrets: BTreeSet<String> = parts
        .flat_map(|part| part["volumeMounts"].as_array().into_iter().flatten())
        .filter(|mount| secret(mount))
        .filter_map(|mount| mount["name"].as_str().map(str::to_owned))
        .collect();
    let volumes: Vec<Value> = named(spec, "volumes")
        .filter(|v| !v["name"].as_str().is_some_and(|name| of_secrets.contains(name)))
        .map(|v| volume(&v, given))
        .collect();
    out.insert("volumes".to_owned(), json!(volumes));
    for key in ["containers", "initContainers"] {
        let mut all = Map::new();
        for part in spec[key].as_array().into_iter().flatten() {
            let name = part["name"].as_str().unwrap_or_default();
            if !matches!(name, "wait" | "init" | "supervisor" | "windlass-init") {
                all.insert(name.to_owned(), container(part, given));
            }
        }
        out.insert(key.to_owned(), Value::Object(all));
    }
    out.retain(|_, v| !is_nothing(v));
    out
}

/// A volume without the API server's defaults.
fn volume(of: &Value, given: &Given) -> Value {
    let mut of = even(of, given);
    for source in of.as_object_mut().into_iter().flatten().map(|(_, source)| source) {
        if let Some(source) = source.as_object_mut() {
            source.remove("defaultMode");
        }
    }
    of
}

fn container(part: &Value, given: &Given) -> Value {
    let mut out = Map::new();
    out.insert("image".to_owned(), even(&part["image"], given));
    let words = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|w| w.as_str().map(|w| given.even(w))).collect()
    };
    let mut command = words(&part["command"]);
    // What the executor wraps stands behind its `--`; the script's place is its own.
    if command.first().is_some_and(|first| first.ends_with("argoexec"))
        && let Some(at) = command.iter().position(|word| word == "--")
    {
        command.drain(..=at);
    }
    let executor = ["argoexec", "windlass.dev/executor"];
    if part["image"].as_str().is_some_and(|image| executor.iter().any(|e| image.contains(e))) {
        return json!({"image": "@executor", "command": []});
    }
    if let Some((_, entrypoint)) = ENTRYPOINTS.iter().find(|(image, _)| part["image"] == *image)
        && command.len() >= entrypoint.len()
        && command.iter().zip(entrypoint.iter()).all(|(a, b)| a == b)
    {
        command.drain(..entrypoint.len());
    }
    // Command and arguments are one line: who splits them is the image's own command.
    command.extend(words(&part["args"]));
    out.insert("command".to_owned(), json!(command));
    let mut env = Map::new();
    for entry in part["env"].as_array().into_iter().flatten() {
        let name = entry["name"].as_str().unwrap_or_default();
        let executors = name.starts_with("ARGO_") || name.starts_with("TRACE") || name.starts_with("WINDLASS_");
        if !executors {
            let mut entry = even(entry, given);
            if let Some(field) = entry.pointer_mut("/valueFrom/fieldRef").and_then(Value::as_object_mut) {
                field.remove("apiVersion");
            }
            env.insert(name.to_owned(), entry);
        }
    }
    out.insert("env".to_owned(), Value::Object(env));
    let mounts: Vec<Value> = named(part, "volumeMounts")
        .filter(|mount| !mount["mountPath"].as_str().is_some_and(|path| path.starts_with(SECRETS)))
        .map(|v| even(&v, given))
        .collect();
    out.insert("volumeMounts".to_owned(), json!(mounts));
    for key in ["resources", "workingDir", "ports", "securityContext", "envFrom", "lifecycle"] {
        out.insert(key.to_owned(), even(&part[key], given));
    }
    out.retain(|_, v| !is_nothing(v));
    Value::Object(out)
}
