//! The CustomResourceDefinitions of Argo's kinds and our own, as manifests. Names, short names and printer columns
//! are Argo's.
//! The stored schema keeps unknown fields (Argo's "minimal" form); strict schemas for lint come from [`schema_for`].

use serde_json::{Value, json};

use crate::{ARGO_GROUP, VERSION, WINDLASS_GROUP};

/// One custom kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name in addresses.
    pub plural: &'static str,
    /// The name of one.
    pub singular: &'static str,
    /// Short names.
    pub short_names: &'static [&'static str],
    /// Whether it is in a namespace.
    pub namespaced: bool,
    /// Whether `status` is a subresource.
    pub status: bool,
    /// Printer columns: name, type, JSONPath, description, priority.
    pub columns: &'static [Column],
}

/// One printer column: name, type, JSONPath, description, priority.
pub type Column = (&'static str, &'static str, &'static str, &'static str, i32);

const WORKFLOW_COLUMNS: &[Column] = &[
    ("Status", "string", ".status.phase", "Status of the workflow", 0),
    ("Age", "date", ".status.startedAt", "When the workflow was started", 0),
    (
        "Message",
        "string",
        ".status.message",
        "Human readable message indicating details about why the workflow is in this condition.",
        0,
    ),
];

const DELIVERY_COLUMNS: &[Column] = &[
    ("Repository", "string", ".spec.event.repo.fullName", "The repository", 0),
    ("Ref", "string", ".spec.event.ref", "The ref", 0),
    ("Status", "string", ".status.phase", "What became of the delivery", 0),
    ("Workflow", "string", ".status.workflow.name", "The workflow that was made", 0),
    ("Age", "date", ".metadata.creationTimestamp", "When it arrived", 0),
];

/// Every custom kind that Windlass serves.
pub const KINDS: &[Kind] = &[
    Kind {
        group: ARGO_GROUP,
        kind: "Workflow",
        plural: "workflows",
        singular: "workflow",
        short_names: &["wf"],
        namespaced: true,
        status: false,
        columns: WORKFLOW_COLUMNS,
    },
    Kind {
        group: ARGO_GROUP,
        kind: "WorkflowTemplate",
        plural: "workflowtemplates",
        singular: "workflowtemplate",
        short_names: &["wftmpl"],
        namespaced: true,
        status: false,
        columns: &[],
    },
    Kind {
        group: ARGO_GROUP,
        kind: "ClusterWorkflowTemplate",
        plural: "clusterworkflowtemplates",
        singular: "clusterworkflowtemplate",
        short_names: &["clusterwftmpl", "cwft"],
        namespaced: false,
        status: false,
        columns: &[],
    },
    Kind {
        group: ARGO_GROUP,
        kind: "CronWorkflow",
        plural: "cronworkflows",
        singular: "cronworkflow",
        short_names: &["cwf", "cronwf"],
        namespaced: true,
        status: false,
        columns: &[],
    },
    Kind {
        group: ARGO_GROUP,
        kind: "WorkflowEventBinding",
        plural: "workfloweventbindings",
        singular: "workfloweventbinding",
        short_names: &["wfeb"],
        namespaced: true,
        status: false,
        columns: &[],
    },
    Kind {
        group: ARGO_GROUP,
        kind: "WorkflowTaskResult",
        plural: "workflowtaskresults",
        singular: "workflowtaskresult",
        short_names: &[],
        namespaced: true,
        status: false,
        columns: &[],
    },
    Kind {
        group: ARGO_GROUP,
        kind: "WorkflowTaskSet",
        plural: "workflowtasksets",
        singular: "workflowtaskset",
        short_names: &["wfts"],
        namespaced: true,
        status: true,
        columns: &[],
    },
    Kind {
        group: ARGO_GROUP,
        kind: "WorkflowArtifactGCTask",
        plural: "workflowartifactgctasks",
        singular: "workflowartifactgctask",
        short_names: &["wfat"],
        namespaced: true,
        status: true,
        columns: &[],
    },
    Kind {
        group: WINDLASS_GROUP,
        kind: "Delivery",
        plural: "deliveries",
        singular: "delivery",
        short_names: &["dlv"],
        namespaced: true,
        status: true,
        columns: DELIVERY_COLUMNS,
    },
];

impl Kind {
    /// The CustomResourceDefinition of the kind.
    pub fn manifest(&self) -> Value {
        let columns: Vec<Value> = self
            .columns
            .iter()
            .map(|(name, kind, path, description, priority)| {
                let mut column = json!({"name": name, "type": kind, "jsonPath": path, "description": description});
                if *priority != 0 {
                    column["priority"] = json!(priority);
                }
                column
            })
            .collect();
        let open =
            json!({"type": "object", "x-kubernetes-map-type": "atomic", "x-kubernetes-preserve-unknown-fields": true});
        let mut properties = json!({
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        });
        let mut required = vec!["metadata"];
        if self.kind == "WorkflowTaskResult" {
            for name in ["message", "phase", "progress"] {
                properties[name] = json!({"type": "string"});
            }
            properties["outputs"] = open.clone();
        } else {
            properties["spec"] = open.clone();
            required.push("spec");
            properties["status"] = open;
        }
        let mut version = json!({
            "name": VERSION,
            "served": true,
            "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": properties, "required": required}},
        });
        if !columns.is_empty() {
            version["additionalPrinterColumns"] = Value::Array(columns);
        }
        if self.status {
            version["subresources"] = json!({"status": {}});
        }
        let list = format!("{}List", self.kind);
        let mut names = json!({"kind": self.kind, "listKind": list, "plural": self.plural, "singular": self.singular});
        if !self.short_names.is_empty() {
            names["shortNames"] = json!(self.short_names);
        }
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{}.{}", self.plural, self.group)},
            "spec": {
                "group": self.group,
                "names": names,
                "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
                "versions": [version],
            },
        })
    }
}

/// The CustomResourceDefinitions of every kind.
pub fn manifests() -> Vec<Value> {
    KINDS.iter().map(Kind::manifest).collect()
}

/// The strict JSON schema of one of our kinds (`additionalProperties: false` wherever a field's name is known), for
/// lint.
pub fn schema_for(kind: &str) -> Option<Value> {
    let schema = match kind {
        "Workflow" => schemars::schema_for!(crate::workflow::Workflow),
        "WorkflowTemplate" => schemars::schema_for!(crate::workflow::WorkflowTemplate),
        "ClusterWorkflowTemplate" => schemars::schema_for!(crate::workflow::ClusterWorkflowTemplate),
        "CronWorkflow" => schemars::schema_for!(crate::cron::CronWorkflow),
        "WorkflowEventBinding" => schemars::schema_for!(crate::event_binding::WorkflowEventBinding),
        "WorkflowTaskResult" => schemars::schema_for!(crate::task_result::WorkflowTaskResult),
        "Delivery" => schemars::schema_for!(crate::delivery::Delivery),
        _ => return None,
    };
    Some(schema.to_value())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Workflow;

    #[test]
    fn every_kind_has_a_manifest_and_its_names() {
        for (kind, manifest) in KINDS.iter().zip(manifests()) {
            assert_eq!(manifest["metadata"]["name"], format!("{}.{}", kind.plural, kind.group));
            assert_eq!(manifest["spec"]["names"]["kind"], kind.kind);
            assert_eq!(manifest["spec"]["versions"][0]["storage"], true);
        }
    }

    #[test]
    fn schemas_know_their_fields_and_no_others() {
        let schema = schema_for("Workflow").unwrap();
        assert_eq!(schema["$defs"]["Template"]["additionalProperties"], false);
        assert!(schema["$defs"]["Template"]["properties"]["retryStrategy"].is_object());
        assert!(schema["$defs"]["Artifact"]["properties"]["artifactGC"].is_object());
        assert!(schema_for("Pod").is_none());
    }

    #[test]
    fn loose_yaml_is_read_and_written_as_argo_does() {
        let given = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "w", "labels": null},
            "spec": {"entrypoint": "a", "arguments": {"parameters": [{"name": "n", "value": 3}, {"name": "b", "value": true}]},
                "templates": [{"name": "a", "inputs": {"parameters": null}, "steps": [[{"name": "s", "template": "b"}]],
                    "retryStrategy": {"limit": "2"}, "unheardOf": 1}]},
            "status": {"phase": "Running", "startedAt": "2030-01-01T00:00:00Z", "finishedAt": null,
                "nodes": {"w": {"id": "w", "name": "w", "displayName": "w", "type": "DAG", "phase": "Omitted", "boundaryID": "x"}}},
        });
        let workflow: Workflow = serde_json::from_value(given).unwrap();
        let back = serde_json::to_value(&workflow).unwrap();
        assert_eq!(back["spec"]["arguments"]["parameters"][0]["value"], "3");
        assert_eq!(back["spec"]["arguments"]["parameters"][1]["value"], "true");
        assert_eq!(back["spec"]["templates"][0]["steps"][0][0]["name"], "s");
        assert_eq!(back["spec"]["templates"][0]["retryStrategy"]["limit"], "2");
        assert_eq!(back["status"]["nodes"]["w"]["boundaryID"], "x");
        assert_eq!(back["status"]["startedAt"], "2030-01-01T00:00:00Z");
    }
}
