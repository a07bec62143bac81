//! `Task`: what the controller tells the executor about one step, as JSON in the pod's annotation `windlass.dev/task`.
//! It never carries a secret: artifact locations name Secrets, the executor reads them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::parameter::Outputs;
use crate::time::Time;

/// One step's work beside its containers: what to bring in, what to take out, by when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// The template's name.
    pub template: String,
    /// Whether the standard output of `main` is wanted as `outputs.result`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_result: bool,
    /// A script's source: staged read-only (mode 0755) at [`SCRIPT_PATH`]; the command already has that path as last
    /// argument.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Input artifacts with fully resolved locations, `path` and `mode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Artifact>,
    /// Output parameters by path (with default) and output artifacts (path, archive, optional, resolved destination
    /// key).
    #[serde(skip_serializing_if = "Outputs::is_empty")]
    pub outputs: Outputs,
    /// When the step must have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// A resource template's work; `main` is then the internal executor image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceTask>,
    /// Where the log of `main` goes when it is to be kept as an artifact (`main-logs`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub archive_logs: bool,
    /// The location of the log artifact when `archiveLogs` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_artifact: Option<Artifact>,
    /// The workflow's name.
    pub workflow_name: String,
    /// The workflow's uid.
    pub workflow_uid: String,
    /// The node's id, and the name of the WorkflowTaskResult.
    pub node_id: String,
    /// Counts pods made for one node: 0 is the first.
    pub attempt: u32,
}

/// Where a script's source is staged.
pub const SCRIPT_PATH: &str = "/argo/staging/script";

/// What a resource template asks for, with every tag replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceTask {
    /// `create`, `apply`, `patch`, `replace`, `delete` or `get`.
    pub action: String,
    /// The manifest: YAML or JSON text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    /// `strategic` (default), `merge` or `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_strategy: Option<String>,
    /// Make the workflow own the resource.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub set_owner_reference: bool,
    /// Label selector syntax over fields; met means success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_condition: Option<String>,
    /// Label selector syntax over fields; met means failure, and failure wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_condition: Option<String>,
    /// kubectl's flags, as the user wrote them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}
