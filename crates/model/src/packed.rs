//! Large node tables, packed: `compressedNodes` is gzip and base64 of the JSON, as Argo's controller writes it. Readers see
//! the table whole either way. Must never lose a table: a text that cannot be read stays where it is.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::status::WorkflowStatus;

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
    use serde_json::json;

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
}
