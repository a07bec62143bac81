//! `WorkflowTaskResult`: what a step's executor reports. Its name is the node's id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::ObjectMeta;
use crate::parameter::Outputs;
use crate::phase::NodePhase;

/// A report from inside a step; the reported parts are at the top level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowTaskResult {
    /// `argoproj.io/v1alpha1`
    pub api_version: String,
    /// `WorkflowTaskResult`
    pub kind: String,
    /// Name is the node's id; labels tell the workflow and whether the report is complete.
    pub metadata: ObjectMeta,
    /// What the step made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Outputs>,
    /// A phase that overrides the pod's, when given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<NodePhase>,
    /// A message for the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `N/M`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
}
