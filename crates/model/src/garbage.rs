//! `WorkflowArtifactGCTask`: the ledger of artifacts that are to be removed, and what became of each. Argo's kind; with us it
//! belongs to nobody, so that it outlives its workflow. It names Secrets and never holds one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::{Artifact, ArtifactLocation};
use crate::meta::ObjectMeta;
use crate::scalar::null_as_default;

/// When an artifact goes. What says neither, or `Never`, stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// When the run has ended.
    OnWorkflowCompletion,
    /// When the workflow is deleted.
    OnWorkflowDeletion,
}

impl Strategy {
    /// Reads Argo's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "OnWorkflowCompletion" => Some(Self::OnWorkflowCompletion),
            "OnWorkflowDeletion" => Some(Self::OnWorkflowDeletion),
            _ => None,
        }
    }

    /// Argo's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnWorkflowCompletion => "OnWorkflowCompletion",
            Self::OnWorkflowDeletion => "OnWorkflowDeletion",
        }
    }
}

/// One ledger: the artifacts that one pod removes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowArtifactGcTask {
    /// `argoproj.io/v1alpha1`
    pub api_version: String,
    /// `WorkflowArtifactGCTask`
    pub kind: String,
    /// Its annotations tell the strategy and the workflow ([`crate::labels`]).
    pub metadata: ObjectMeta,
    /// What is to be removed.
    #[serde(deserialize_with = "null_as_default")]
    pub spec: Garbage,
    /// What became of it.
    #[serde(deserialize_with = "null_as_default")]
    pub status: Removals,
}

/// What is to be removed, and by what pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Garbage {
    /// By the node's id.
    #[serde(deserialize_with = "null_as_default")]
    pub artifacts_by_node: BTreeMap<String, NodeGarbage>,
    /// The pod that removes them, but for its name and its task (ours: Argo makes it from the workflow, which may be gone).
    #[serde(skip_serializing_if = "Value::is_null")]
    pub pod: Value,
}

/// The artifacts of one node, with whole locations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeGarbage {
    /// Where artifacts are that do not say it (Argo's; ours always say it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_location: Option<ArtifactLocation>,
    /// By name.
    #[serde(deserialize_with = "null_as_default")]
    pub artifacts: BTreeMap<String, Artifact>,
}

/// What became of the artifacts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Removals {
    /// By the node's id.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub artifact_results_by_node: BTreeMap<String, NodeRemovals>,
}

/// What became of one node's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRemovals {
    /// By the artifact's name.
    #[serde(deserialize_with = "null_as_default")]
    pub artifact_results: BTreeMap<String, Removal>,
}

/// What became of one artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Removal {
    /// The artifact.
    pub name: String,
    /// Whether it is gone.
    #[serde(deserialize_with = "null_as_default")]
    pub success: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
