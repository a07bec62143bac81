//! `Delivery`: one event that arrived by webhook, reduced to what is needed, and what became of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::meta::ObjectMeta;
use crate::scalar::null_as_default;

/// An event that arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct Delivery {
    /// `windlass.dev/v1alpha1`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// `Delivery`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Names, labels, annotations.
    pub metadata: ObjectMeta,
    /// What arrived.
    pub spec: DeliverySpec,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DeliveryStatus>,
}

/// What arrived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DeliverySpec {
    /// The event.
    pub event: DeliveryEvent,
}

/// A push, a delete or another event of a forge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DeliveryEvent {
    /// `github`, `gitlab`, …
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// The provider's word: `push`, `delete`, `ping`, …
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub event: String,
    /// The provider's id of this delivery: repeats carry the same.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub delivery_id: String,
    /// Which repository.
    pub repo: DeliveryRepo,
    /// The full ref, as `refs/heads/main`.
    #[serde(rename = "ref", deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub ref_: String,
    /// `branch` or `tag`, where the event tells.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub ref_type: String,
    /// The commit after the event.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The commit before it.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// The provider's action, where the event has one.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub action: String,
}

/// Which repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DeliveryRepo {
    /// `owner/name`
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub full_name: String,
    /// The owner.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The name without its owner.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The default branch.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub default_branch: String,
    /// Its page.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub html_url: String,
    /// For https.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub clone_url: String,
    /// For git.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub git_url: String,
    /// For ssh.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub ssh_url: String,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryPhase {
    /// Stored, not looked at.
    #[default]
    Received,
    /// The manifest is being fetched.
    Fetching,
    /// A workflow was made.
    Submitted,
    /// Nothing to do, and why is in `reason`.
    Ignored,
    /// It went wrong, and why is in `reason`, `message` and `diagnostics`.
    Failed,
}

/// What became of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DeliveryStatus {
    /// How far it is.
    pub phase: DeliveryPhase,
    /// One word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What is wrong with the manifest.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Value>,
    /// The workflow that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<DeliveryWorkflow>,
}

/// The workflow that a delivery made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(deny_unknown_fields)]
pub struct DeliveryWorkflow {
    /// Its namespace.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "String::is_empty")]
    pub name: String,
}
