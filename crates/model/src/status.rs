//! A workflow's status and its node table, exactly as Argo serialises them. Never changed anywhere but in the engine.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::parameter::{Inputs, Outputs};
use crate::phase::{NodePhase, NodeType, WorkflowPhase};
use crate::scalar::null_as_default;
use crate::template::{Template, TemplateRef};
use crate::time::Time;
use crate::workflow::WorkflowSpec;

/// Progress as Argo takes it: `N/M` with `0 <= N <= M` and something to do.
pub fn parse_progress(text: &str) -> Option<(i64, i64)> {
    let (done, all) = text.split_once('/')?;
    let (done, all) = (done.parse().ok()?, all.parse().ok()?);
    (0 <= done && done <= all && all > 0).then_some((done, all))
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowStatus {
    /// The phase.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_unknown_workflow")]
    pub phase: WorkflowPhase,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// A guess, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_duration: Option<i64>,
    /// `N/M`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Why it is in this phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The node table, gzip and base64, when it is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compressed_nodes: Option<String>,
    /// The node table, by node id.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<String, NodeStatus>,
    /// The version of a node table kept elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload_node_status_version: Option<String>,
    /// Templates of other resources, frozen.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub stored_templates: BTreeMap<String, Template>,
    /// Claims made for the run.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub persistent_volume_claims: Vec<Value>,
    /// Global outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
    /// Conditions.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Requested resources times seconds.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub resources_duration: BTreeMap<String, i64>,
    /// The spec of `workflowTemplateRef`, merged and frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_workflow_template_spec: Option<Box<WorkflowSpec>>,
    /// Locks held and waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronization: Option<Value>,
    /// The repository that is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_repository_ref: Option<Value>,
    /// How far garbage collection is.
    #[serde(rename = "artifactGCStatus", skip_serializing_if = "Option::is_none")]
    pub artifact_gc_status: Option<Value>,
    /// Which reports are complete (Argo before 4.1).
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub task_results_completion_status: BTreeMap<String, bool>,
}

/// One row of the node table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// The node's id, and its key in the table.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its full name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its name for people.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub type_: NodeType,
    /// Its template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_name: Option<String>,
    /// Its template, when of another resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,
    /// Where its template's name is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_scope: Option<String>,
    /// The phase.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_unknown_node")]
    pub phase: NodePhase,
    /// The node whose template it was made by.
    #[serde(rename = "boundaryID", skip_serializing_if = "Option::is_none")]
    pub boundary_id: Option<String>,
    /// Why it is in this phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// A guess, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_duration: Option<i64>,
    /// `N/M`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// Requested resources times seconds.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub resources_duration: BTreeMap<String, i64>,
    /// The pod's address (daemons).
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Whether it goes on while the rest proceeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daemoned: Option<bool>,
    /// What kind of child it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_flag: Option<NodeFlag>,
    /// What it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
    /// What it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
    /// The nodes that come after it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<String>,
    /// The last nodes inside it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub outbound_nodes: Vec<String>,
    /// Where its pod ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_node_name: Option<String>,
    /// Whether its outputs were remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memoization_status: Option<Value>,
    /// Which lock it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synchronization_status: Option<SynchronizationStatus>,
    /// Whether its report is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_result_synced: Option<bool>,
    /// The pod that is being replaced.
    #[serde(rename = "restartingPodUID", skip_serializing_if = "Option::is_none")]
    pub restarting_pod_uid: Option<String>,
    /// How many pods the infrastructure lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_pod_restarts: Option<i32>,
}

/// What kind of child a node is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeFlag {
    /// Made by a hook.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub hooked: bool,
    /// An attempt of a Retry node.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "std::ops::Not::not")]
    pub retried: bool,
}

/// Which lock a node waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SynchronizationStatus {
    /// The lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
}

/// A condition of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which: `PodRunning`, `Completed`, `SpecWarning`, `SpecError`, `MetricsError`, `ArtifactGCError`.
    #[serde(rename = "type", deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// More.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn is_unknown_workflow(phase: &WorkflowPhase) -> bool {
    *phase == WorkflowPhase::Unknown
}

fn is_unknown_node(phase: &NodePhase) -> bool {
    *phase == NodePhase::Unknown
}

impl NodeStatus {
    /// Whether nothing waits for this node any more: it has ended, or it is a daemon that runs.
    pub fn is_fulfilled(&self) -> bool {
        self.phase.is_fulfilled() || (self.daemoned == Some(true) && self.phase != NodePhase::Pending)
    }
}
