//! A finished workflow as a row: what it is found by, what a list shows, and the whole. Reads the metadata and the head of
//! the status, and changes nothing but what says where the workflow is.

use serde_json::{Value, json};

use crate::{Error, Labels};

/// Label: how far archiving has come. A copy that is kept says so.
const STATUS: &str = "workflows.argoproj.io/workflow-archiving-status";

/// One row.
#[derive(Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) phase: String,
    pub(crate) started: String,
    pub(crate) finished: String,
    pub(crate) created: String,
    pub(crate) labels: Labels,
    pub(crate) summary: String,
    pub(crate) workflow: String,
}

impl Record {
    pub(crate) fn read(text: &str) -> Result<Self, Error> {
        let mut wf: Value = serde_json::from_str(text).map_err(|e| Error::Unreadable(e.to_string()))?;
        windlass_model::packed::expand(&mut wf);
        let text = |wf: &Value, at: &str| wf.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let uid = text(&wf, "/metadata/uid");
        if uid.is_empty() {
            return Err(Error::Unreadable("it has no uid".to_owned()));
        }
        wf["apiVersion"] = json!("argoproj.io/v1alpha1");
        wf["kind"] = json!("Workflow");
        if let Some(metadata) = wf["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        wf["metadata"]["labels"][STATUS] = json!("Persisted");
        let labels: Labels = serde_json::from_value(wf["metadata"]["labels"].clone())
            .map_err(|e| Error::Unreadable(format!("labels: {e}")))?;
        let mut summary = json!({"apiVersion": wf["apiVersion"], "kind": wf["kind"]});
        for (part, fields) in [
            ("metadata", &["name", "namespace", "uid", "labels", "annotations", "creationTimestamp"][..]),
            ("spec", &["suspend", "arguments", "priority"]),
            (
                "status",
                &["phase", "startedAt", "finishedAt", "progress", "message", "estimatedDuration", "resourcesDuration"],
            ),
        ] {
            summary[part] = json!({});
            for field in fields {
                if let Some(value) = wf[part].get(field).filter(|v| !v.is_null()) {
                    summary[part][field] = value.clone();
                }
            }
        }
        Ok(Self {
            uid,
            name: text(&wf, "/metadata/name"),
            namespace: text(&wf, "/metadata/namespace"),
            phase: text(&wf, "/status/phase"),
            started: text(&wf, "/status/startedAt"),
            finished: text(&wf, "/status/finishedAt"),
            created: text(&wf, "/metadata/creationTimestamp"),
            labels,
            summary: summary.to_string(),
            workflow: wf.to_string(),
        })
    }
}
