//! The form in which a node table fits into the API: plain, as long as the whole workflow is no larger than 1 MiB; packed
//! beyond that ([`crate::packed`]), as Argo's controller does (v4.1); and on pages ([`crate::paged`]) where even the packed
//! one would not fit. A table that has been packed or laid on pages stays so. Pure: no request is made here.

use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::paged::{Book, Written};
use crate::{labels, packed};

/// A workflow of more bytes of JSON than this has its node table packed. Argo's `MAX_WORKFLOW_SIZE`.
pub const BYTES_MAX: usize = 1 << 20;

/// A workflow of more bytes than this is not written: etcd takes 1.5 MiB, and an API server adds some of its own.
pub const OBJECT_BYTES_MAX: usize = 1_500_000;

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

/// The form that a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// In `status.nodes`.
    #[default]
    Plain,
    /// In `status.compressedNodes`.
    Packed,
    /// On the pages that `status.offloadNodeStatusVersion` names.
    Paged,
}

impl Form {
    /// Of a workflow as the API has it.
    #[must_use]
    pub fn of(workflow: &Value) -> Self {
        match &workflow["status"] {
            status if version(status).is_some() => Self::Paged,
            status if status["compressedNodes"].is_string() => Self::Packed,
            _ => Self::Plain,
        }
    }
}

/// The version of a table that is kept elsewhere, by a status as the API has it; nothing where the table is in it.
#[must_use]
pub fn version(status: &Value) -> Option<&str> {
    let has_rows = status["nodes"].as_object().is_some_and(|nodes| !nodes.is_empty());
    let version = status["offloadNodeStatusVersion"].as_str().filter(|version| !version.is_empty());
    version.filter(|_| !has_rows && !status["compressedNodes"].is_string())
}

/// A change of a workflow that says where its table is now: on these pages.
pub fn name_pages(change: &mut Value, version: String) {
    change["metadata"]["labels"][labels::NODE_TABLE] = json!("true");
    change["status"]["offloadNodeStatusVersion"] = version.into();
    change["status"]["compressedNodes"] = Value::Null;
    change["status"]["nodes"] = Value::Null;
}

/// A merge patch that was made for a workflow with its table in its place, as it is to be written: where the table is packed
/// or on pages, or grows too large, it is written whole. `stored` is the workflow as the API has it, `whole` the same with its
/// table. What is answered has to be written before; new pages' names are made of `stamp`.
pub fn fit(stored: &Value, whole: &Value, patch: &mut Value, stamp: &str) -> Result<Written, String> {
    let Some(change) = patch["status"].get("nodes").filter(|nodes| nodes.is_object()).cloned() else {
        return Ok(Written::default());
    };
    let mut whole = whole.clone();
    merge(&mut whole["status"]["nodes"], change);
    let form = Form::of(stored);
    if form == Form::Plain && bytes(&whole) <= BYTES_MAX {
        return Ok(Written::default());
    }
    let Some(Value::Object(nodes)) = whole["status"].get_mut("nodes").map(Value::take) else {
        return Ok(Written::default());
    };
    let table = packed::pack(&nodes);
    if form != Form::Paged && table.len() + bytes(&whole) <= OBJECT_BYTES_MAX {
        patch["status"]["compressedNodes"] = table.into();
        patch["status"]["nodes"] = Value::Null;
        return Ok(Written::default());
    }
    let (written, version) = pages(&nodes, stamp)?;
    name_pages(patch, version);
    Ok(written)
}

/// A workflow that is made with its node table: packed or on pages where it is too large. What is answered has to be written
/// before.
pub fn shrink(workflow: &mut Value, stamp: &str) -> Result<Written, String> {
    if !workflow["status"]["nodes"].is_object() || bytes(workflow) <= BYTES_MAX {
        return Ok(Written::default());
    }
    let Some(Value::Object(nodes)) = workflow["status"].as_object_mut().and_then(|status| status.remove("nodes"))
    else {
        return Ok(Written::default());
    };
    let table = packed::pack(&nodes);
    if table.len() + bytes(workflow) <= OBJECT_BYTES_MAX {
        workflow["status"]["compressedNodes"] = table.into();
        return Ok(Written::default());
    }
    let (written, version) = pages(&nodes, stamp)?;
    workflow["metadata"]["labels"][labels::NODE_TABLE] = json!("true");
    workflow["status"]["offloadNodeStatusVersion"] = version.into();
    Ok(written)
}

fn pages(nodes: &Map<String, Value>, stamp: &str) -> Result<(Written, String), String> {
    let mut book = Book::default();
    let written = book.write(nodes.keys().map(String::as_str), |id| nodes.get(id), stamp)?;
    Ok((written, book.version()))
}

/// A workflow with its table in its place: `rows` are those of the pages that it names.
pub fn put_in(workflow: &mut Value, rows: Map<String, Value>) {
    if let Some(status) = workflow["status"].as_object_mut() {
        status.remove("offloadNodeStatusVersion");
        status.insert("nodes".to_owned(), Value::Object(rows));
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::paged;

    fn packed() -> Value {
        let nodes = json!({"a": {"id": "a", "phase": "Running"}, "b": {"id": "b", "phase": "Succeeded"}});
        json!({"status": {"phase": "Running", "compressedNodes": packed::pack(&nodes)}})
    }

    fn fit_whole(stored: &Value, patch: &mut Value) -> Written {
        let mut whole = stored.clone();
        packed::expand(&mut whole);
        fit(stored, &whole, patch, "s").unwrap()
    }

    /// Nothing makes such texts shorter than base64 is.
    fn noise(bytes: usize) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-";
        let mut state = 7_u64;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[usize::try_from(state >> 58).unwrap()])
        };
        (0..bytes).map(|_| letter()).collect()
    }

    fn rows(written: &Written) -> Map<String, Value> {
        written.pages.iter().flat_map(|page| paged::rows(&page.object(&json!({"name": "w"}))).unwrap()).collect()
    }

    #[test]
    fn a_table_that_does_not_fit_packed_goes_on_pages_and_stays_there() {
        let text = noise(400_000);
        let mut made = json!({"metadata": {"name": "w"}, "status": {"nodes": (0..5).map(|i| (format!("n{i}"),
            json!({"message": text, "id": i}))).collect::<Map<_, _>>()}});
        let whole = made.clone();
        let written = shrink(&mut made, "s").unwrap();
        assert_eq!(made["metadata"]["labels"], json!({labels::NODE_TABLE: "true"}));
        assert_eq!(Form::of(&made), Form::Paged);
        assert!(bytes(&made) < 1_000 && made["status"].get("nodes").is_none(), "{made}");
        assert_eq!(json!(rows(&written)), whole["status"]["nodes"]);
        assert_eq!(paged::names(version(&made["status"]).unwrap()).unwrap().len(), written.pages.len());
        let mut again = made.clone();
        put_in(&mut again, rows(&written));
        assert_eq!(again["status"], whole["status"]);

        // The same by a patch; then also a small one is written whole.
        let mut patch = json!({"status": {"nodes": whole["status"]["nodes"]}});
        let written = fit_whole(&json!({"metadata": {"name": "w"}, "status": {}}), &mut patch);
        assert_eq!(json!(rows(&written)), whole["status"]["nodes"]);
        assert_eq!((&patch["status"]["nodes"], &patch["status"]["compressedNodes"]), (&Value::Null, &Value::Null));
        assert!(version(&patch["status"]).is_some());
        let mut patch =
            json!({"status": {"nodes": {"n0": {"phase": "Failed"}, "n1": null, "n2": null, "n3": null, "n4": null}}});
        let written = fit(&made, &whole, &mut patch, "t").unwrap();
        assert_eq!(rows(&written)["n0"]["phase"], "Failed");
        assert_eq!(rows(&written).len(), 1);
        assert_eq!(patch["metadata"]["labels"][labels::NODE_TABLE], "true");
    }

    #[test]
    fn a_patch_of_a_packed_table_writes_it_whole() {
        let stored = packed();
        let mut patch = json!({"status": {"nodes": {"a": null, "b": {"phase": "Failed"}}}});
        fit_whole(&stored, &mut patch);
        assert_eq!(patch["status"]["nodes"], Value::Null);
        let nodes: Value = packed::unpack(patch["status"]["compressedNodes"].as_str().unwrap()).unwrap();
        assert_eq!(nodes, json!({"b": {"id": "b", "phase": "Failed"}}));
        // A small one stays a patch, and so does one that leaves the table alone.
        let mut small = json!({"status": {"nodes": {"a": {"phase": "Failed"}}}});
        fit_whole(&json!({"status": {"nodes": {"a": {"phase": "Running"}}}}), &mut small);
        assert_eq!(small, json!({"status": {"nodes": {"a": {"phase": "Failed"}}}}));
        let mut other = json!({"spec": {"suspend": null}});
        fit_whole(&stored, &mut other);
        assert_eq!(other["spec"], json!({"suspend": null}));
        assert!(other["status"].is_null());
    }

    #[test]
    fn a_table_that_grows_too_large_is_packed() {
        let long = "x".repeat(BYTES_MAX);
        let mut patch = json!({"status": {"nodes": {"a": {"message": long}}}});
        fit_whole(&json!({"status": {}}), &mut patch);
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
