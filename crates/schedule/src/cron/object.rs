//! The workflow of a tick, exactly as Argo makes it: its name, labels, annotations and owner.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use windlass_model::{ARGO_API_VERSION, labels};

/// Labels that a CronWorkflow hands on.
const HANDED_ON: &[&str] = &[
    labels::CREATOR,
    "workflows.argoproj.io/creator-email",
    "workflows.argoproj.io/creator-preferred-username",
    labels::INSTANCE,
];

/// The workflow that a CronWorkflow makes for a tick.
pub fn workflow(cron: &Value, tick: Timestamp) -> Value {
    let meta = &cron["metadata"];
    let name = meta["name"].as_str().unwrap_or_default();
    let of_spec = |field: &str| cron["spec"]["workflowMetadata"][field].as_object().cloned().unwrap_or_default();
    let mut all = Map::new();
    for key in HANDED_ON {
        if let Some(value) = meta["labels"].get(*key) {
            all.insert((*key).to_owned(), value.clone());
        }
    }
    all.insert(labels::CRON_WORKFLOW.to_owned(), json!(name));
    all.extend(of_spec("labels"));
    let mut annotations = Map::from_iter([(labels::SCHEDULED_TIME.to_owned(), json!(tick.to_string()))]);
    annotations.extend(of_spec("annotations"));
    let mut object = json!({
        "apiVersion": ARGO_API_VERSION, "kind": "Workflow",
        "metadata": {
            "name": format!("{name}-{}", tick.as_second()), "namespace": meta["namespace"],
            "labels": all, "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": ARGO_API_VERSION, "kind": "CronWorkflow", "name": name, "uid": meta["uid"],
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": cron["spec"]["workflowSpec"],
    });
    let finalizers = &cron["spec"]["workflowMetadata"]["finalizers"];
    if finalizers.is_array() {
        object["metadata"]["finalizers"] = finalizers.clone();
    }
    object
}
