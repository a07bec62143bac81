//! Large node tables: a status whose table would not fit into an object of Kubernetes keeps it in `compressedNodes`, gzip
//! and base64 of the JSON, as Argo's controller does (v4.1: beyond 1 MiB). Readers see the table whole either way.
//! Must never lose a table: a text that cannot be read stays where it is.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::status::WorkflowStatus;

/// A workflow of more bytes of JSON than this has its node table packed. Argo's `MAX_WORKFLOW_SIZE`.
pub const BYTES_MAX: usize = 1 << 20;

/// A workflow of more bytes than this is not written: etcd takes 1.5 MiB, and an API server adds some of its own.
pub const OBJECT_BYTES_MAX: usize = 1_500_000;

/// No table is unpacked beyond this many bytes: whoever may write a status could fill the memory otherwise.
const UNPACKED_BYTES_MAX: u64 = 512 << 20;

/// A node table as `compressedNodes` has it.
#[must_use]
pub fn pack(nodes: &impl Serialize) -> String {
    let mut zip = GzEncoder::new(Vec::new(), Compression::default());
    let written = serde_json::to_writer(&mut zip, nodes).map_err(std::io::Error::other);
    // Neither writing to memory nor a map of texts can fail.
    let bytes = written.and_then(|()| zip.flush()).and_then(|()| zip.finish()).unwrap_or_default();
    STANDARD.encode(bytes)
}

/// The table in `compressedNodes`; the error says what is wrong with it.
pub fn unpack<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let bytes = STANDARD.decode(text).map_err(|e| format!("compressedNodes is not base64: {e}"))?;
    let mut plain = Vec::new();
    let mut zip = GzDecoder::new(bytes.as_slice()).take(UNPACKED_BYTES_MAX);
    zip.read_to_end(&mut plain).map_err(|e| format!("compressedNodes is not gzip: {e}"))?;
    serde_json::from_slice(&plain).map_err(|e| format!("compressedNodes is not a node table: {e}"))
}

/// How many bytes of JSON something is.
#[must_use]
pub fn bytes(what: &impl Serialize) -> usize {
    struct Count(usize);
    impl Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    let written = serde_json::to_writer(&mut count, what);
    if written.is_ok() { count.0 } else { usize::MAX }
}

/// A workflow as JSON with its table in `status.nodes`. One that is not packed, or cannot be read, stays as it is.
pub fn expand(workflow: &mut Value) {
    let status = &mut workflow["status"];
    if status["nodes"].as_object().is_some_and(|nodes| !nodes.is_empty()) {
        return;
    }
    let Some(text) = status["compressedNodes"].as_str() else { return };
    if let (Ok(nodes), Some(status)) = (unpack::<Map<String, Value>>(text), status.as_object_mut()) {
        status.insert("nodes".to_owned(), Value::Object(nodes));
        status.remove("compressedNodes");
    }
}

/// A merge patch that was made for an expanded workflow, as it is to be written: where the table is packed, or grows too
/// large, it is written whole. `stored` is the workflow as the API has it.
pub fn fit(stored: &Value, patch: &mut Value) {
    let Some(change) = patch["status"].get("nodes").filter(|nodes| nodes.is_object()).cloned() else { return };
    let packed = stored["status"]["compressedNodes"].is_string();
    let mut whole = stored.clone();
    expand(&mut whole);
    let nodes = &mut whole["status"]["nodes"];
    if !nodes.is_object() {
        *nodes = json!({});
    }
    merge(nodes, change);
    if packed || bytes(&whole) > BYTES_MAX {
        patch["status"]["compressedNodes"] = pack(&whole["status"]["nodes"]).into();
        patch["status"]["nodes"] = Value::Null;
    }
}

/// A workflow that is made with its node table: packed where it is too large.
pub fn shrink(workflow: &mut Value) {
    let nodes = &workflow["status"]["nodes"];
    if nodes.is_object() && bytes(workflow) > BYTES_MAX {
        workflow["status"]["compressedNodes"] = pack(nodes).into();
        if let Some(status) = workflow["status"].as_object_mut() {
            status.remove("nodes");
        }
    }
}

/// A JSON merge patch, applied (RFC 7386).
pub fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Value::Object(map) = into else { return };
    for (key, value) in patch {
        match value {
            Value::Null => drop(map.remove(&key)),
            value => merge(map.entry(key).or_insert(Value::Null), value),
        }
    }
}

/// A status whose table is in its place.
pub(crate) fn expanded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WorkflowStatus>, D::Error> {
    let mut status: Option<WorkflowStatus> = Deserialize::deserialize(deserializer)?;
    if let Some(status) = &mut status
        && status.nodes.is_empty()
        && let Some(text) = &status.compressed_nodes
        && let Ok(nodes) = unpack(text)
    {
        status.nodes = nodes;
        status.compressed_nodes = None;
    }
    Ok(status)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Workflow;

    fn packed() -> Value {
        let nodes = json!({"a": {"id": "a", "phase": "Running"}, "b": {"id": "b", "phase": "Succeeded"}});
        json!({"status": {"phase": "Running", "compressedNodes": pack(&nodes)}})
    }

    #[test]
    fn readers_see_the_table() {
        let mut value = packed();
        let workflow: Workflow = serde_json::from_value(value.clone()).unwrap();
        let status = workflow.status.unwrap();
        assert_eq!((status.nodes.len(), status.compressed_nodes), (2, None));
        expand(&mut value);
        assert_eq!(value["status"]["nodes"]["b"]["phase"], "Succeeded");
        assert!(value["status"].get("compressedNodes").is_none());
    }

    /// What Go's `gzip` and `base64.StdEncoding` make of `{}` has other bytes than ours, and is read alike.
    #[test]
    fn what_go_packed_is_read() {
        let go = "H4sIAAAAAAAA/6quBQQAAP//Q7+mowIAAAA=";
        assert_eq!(unpack::<Map<String, Value>>(go).unwrap(), Map::new());
    }

    #[test]
    fn what_cannot_be_read_stays() {
        for text in ["%", "aGVsbG8=", ""] {
            let mut value = json!({"status": {"compressedNodes": text}});
            let before = value.clone();
            expand(&mut value);
            assert_eq!(value, before);
            let workflow: Workflow = serde_json::from_value(value).unwrap();
            assert_eq!(workflow.status.unwrap().compressed_nodes.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_patch_of_a_packed_table_writes_it_whole() {
        let stored = packed();
        let mut patch = json!({"status": {"nodes": {"a": null, "b": {"phase": "Failed"}}}});
        fit(&stored, &mut patch);
        assert_eq!(patch["status"]["nodes"], Value::Null);
        let nodes: Value = unpack(patch["status"]["compressedNodes"].as_str().unwrap()).unwrap();
        assert_eq!(nodes, json!({"b": {"id": "b", "phase": "Failed"}}));
        // A small one stays a patch, and so does one that leaves the table alone.
        let mut small = json!({"status": {"nodes": {"a": {"phase": "Failed"}}}});
        fit(&json!({"status": {"nodes": {"a": {"phase": "Running"}}}}), &mut small);
        assert_eq!(small, json!({"status": {"nodes": {"a": {"phase": "Failed"}}}}));
        let mut other = json!({"spec": {"suspend": null}});
        fit(&stored, &mut other);
        assert_eq!(other["spec"], json!({"suspend": null}));
        assert!(other["status"].is_null());
    }

    #[test]
    fn a_table_that_grows_too_large_is_packed() {
        let long = "x".repeat(BYTES_MAX);
        let mut patch = json!({"status": {"nodes": {"a": {"message": long}}}});
        fit(&json!({"status": {}}), &mut patch);
        assert!(patch["status"]["nodes"].is_null());
        assert!(patch["status"]["compressedNodes"].as_str().unwrap().len() < BYTES_MAX / 10);
    }

    #[test]
    fn a_merge_patch_takes_away_and_adds() {
        let mut wf = json!({"status": {"phase": "Failed", "nodes": {"a": {"phase": "Failed"}, "b": {}}}});
        merge(
            &mut wf,
            json!({"status": {"phase": null, "nodes": {"a": null, "b": {"phase": "Running"}}}, "spec": {"x": {"y": 1}}}),
        );
        assert_eq!(wf, json!({"status": {"nodes": {"b": {"phase": "Running"}}}, "spec": {"x": {"y": 1}}}));
    }
}
